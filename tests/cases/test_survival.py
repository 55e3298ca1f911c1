"""The master's death: workers serve on, instances run on, the next master takes them over."""
from headgate import *
from load import Load


def who(gate):
    return json.loads(gate.get("/who").body)


@case(both=True)
def test_served_on_and_adopted(t):
    gate = t.headgate(run_site(t.service("ok")))
    before = who(gate)
    workers = gate.wait_workers()
    load = Load(gate, target="/who")
    load.progress(100)
    gate.kill_master()
    load.progress(100)
    gate.start()
    load.progress(200)
    after = who(gate)
    assert after["pid"] == before["pid"], "the instance was restarted"
    wait_for("the orphans' end", lambda: not [p for p in workers if procs.alive(p)])
    load.progress(100)
    assert not load.stop(), load.failures[:5]
    assert gate.stop() == 0
    assert not procs.alive(before["pid"])
