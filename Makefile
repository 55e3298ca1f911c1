# headgate's build: GNU make, one file, no generated makefiles.
#
#   make            the program (build/headgate), its library and the demo's backend
#   make run        install what is missing, build, start the demo
#   make test       install what is missing, build, run every test
#   make help       every target in a line
#
# Variables: V=1 shows whole commands; BUILD=DIR builds elsewhere; WERROR= lets a compiler that is
# newer than ours warn; CC, CFLAGS, LDFLAGS, DESTDIR and PREFIX mean what they always mean.

MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

BUILD   ?= build
PREFIX  ?= /usr/local
VERSION := $(shell sed -n 's/^\#define HG_VERSION "\(.*\)"/\1/p' base/base.h)

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang

ifeq ($(V),1)
Q :=
else
Q := @
endif
say = @printf '  %-5s %s\n' '$(1)' '$(2)'

# ---- flags --------------------------------------------------------------------------------------

PKGS      := libevent_core openssl libnghttp2 yaml-0.1 jansson libseccomp libbrotlienc libzstd zlib libpsl
DEMO_PKGS := libevent_core libnghttp2

# pkg-config is asked once, when the first rule needs it: a fresh machine has none yet, and
# `make deps`, `make clean` and `make help` must work there.
once = $(eval $(1) := $(shell $(2)))$($(1))
pkg_cflags  = $(call once,pkg_cflags,pkg-config --cflags $(PKGS))
pkg_libs    = $(call once,pkg_libs,pkg-config --libs $(PKGS))
demo_libs   = $(call once,demo_libs,pkg-config --libs $(DEMO_PKGS))
cmocka_libs = $(call once,cmocka_libs,pkg-config --libs cmocka libbrotlidec)

WERROR   ?= -Werror
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wstrict-prototypes -Wformat-security $(WERROR)

# What clang alone minds: libseccomp's macros, and an empty string as a format.
CLANG_WARNINGS := $(WARNINGS) -Wno-missing-field-initializers -Wno-format-zero-length

# No strict aliasing: sockaddrs and messages are looked at through more than one type, as in every
# server, and what it would gain was never measurable.
LANGUAGE := -std=gnu17 -fno-strict-aliasing -fno-common

HARDEN   := -fPIE -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=3
ifeq ($(shell uname -m),x86_64)
HARDEN   += -fcf-protection
endif
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# Three flavours of the same sources: the one to run, one under the sanitizers (make asan), and one
# by clang for the fuzzers.
ifeq ($(FLAVOUR),asan)
FLAVOUR_FLAGS := -O1 -g $(SANITIZE)
FLAVOUR_LD    := $(SANITIZE)
else
FLAVOUR_FLAGS := -O2 -g $(HARDEN)
FLAVOUR_LD    := $(HARDEN_LD)
endif
FUZZ_FLAGS    := -O1 -g $(SANITIZE) -fsanitize=fuzzer-no-link
FUZZ_LD       := -fsanitize=fuzzer,address,undefined

CPPFLAGS_ALL = -I. -D_GNU_SOURCE $(pkg_cflags) $(CPPFLAGS)
CFLAGS_ALL   = $(LANGUAGE) $(WARNINGS) $(FLAVOUR_FLAGS) $(CFLAGS)
LDFLAGS_ALL  = $(FLAVOUR_LD) $(LDFLAGS)

# ---- what there is ------------------------------------------------------------------------------

SOURCES   := $(wildcard base/*.c conf/*.c acme/*.c channels/*.c proxy/*.c)
LIB_SRC   := $(filter-out proxy/main.c,$(SOURCES))
DEMO_SRC  := $(wildcard conf/demo/*.c)
UNIT_SRC  := $(wildcard tests/unit/test_*.c)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)
HEADERS   := $(wildcard base/*.h conf/*.h acme/*.h channels/*.h proxy/*.h conf/demo/*.h tests/*/*.h)
ALL_C     := $(SOURCES) $(DEMO_SRC) $(wildcard tests/*/*.c)
UNITS_SYSTEMD := headgate.service headgate-user.service
MAN       := $(patsubst man/%,$(BUILD)/man/%,$(wildcard man/*.8) $(patsubst %.in,%,$(wildcard man/*.[57].in)))

OBJ       := $(BUILD)/obj
LIB_OBJ   := $(LIB_SRC:%.c=$(OBJ)/%.o)
DEMO_OBJ  := $(DEMO_SRC:%.c=$(OBJ)/%.o)
FUZZ_OBJ  := $(LIB_SRC:%.c=$(OBJ)/fuzz/%.o)
UNITS     := $(UNIT_SRC:tests/%.c=$(BUILD)/tests/%)
FUZZERS   := $(FUZZ_SRC:tests/%.c=$(BUILD)/tests/%)
BENCHES   := $(BENCH_SRC:tests/%.c=$(BUILD)/tests/%)

.PHONY: all units fuzzers benches man prune help deps deps-test run test asan fuzz bench lint lint-tidy format \
        format-check install uninstall clean ci screenshot node

all: $(BUILD)/headgate $(BUILD)/libheadgate.a $(BUILD)/demo-backend
units: $(UNITS) prune
fuzzers: $(FUZZERS) prune
benches: $(BENCHES)
man: $(MAN)

# tests/run takes what it finds there: a test whose source is gone must not stay.
prune:
	@rm -f $(filter-out $(UNITS) $(FUZZERS),$(wildcard $(BUILD)/tests/unit/* $(BUILD)/tests/fuzz/*))

# ---- rules --------------------------------------------------------------------------------------

$(BUILD)/headgate: $(OBJ)/proxy/main.o $(BUILD)/libheadgate.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(pkg_libs)

# Made anew each time: ar would keep the objects of sources that are gone.
$(BUILD)/libheadgate.a: $(LIB_OBJ) $(OBJ)/lib.list
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

$(BUILD)/demo-backend: $(DEMO_OBJ)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(demo_libs)

$(BUILD)/tests/unit/%: $(OBJ)/tests/unit/%.o $(BUILD)/libheadgate.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(pkg_libs) $(cmocka_libs)

$(BUILD)/tests/bench/%: $(OBJ)/tests/bench/%.o $(BUILD)/libheadgate.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(pkg_libs)

$(BUILD)/tests/fuzz/%: $(OBJ)/fuzz/tests/fuzz/%.o $(OBJ)/fuzz/libheadgate.a
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D) && $(CLANG) $(FUZZ_LD) -o $@ $^ $(pkg_libs)

$(OBJ)/fuzz/libheadgate.a: $(FUZZ_OBJ) $(OBJ)/lib.list
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(FUZZ_OBJ)

# Objects are made again when this file or the flags changed, not only the source.
$(OBJ)/%.o: %.c $(OBJ)/flags
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D) && $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(OBJ)/fuzz/%.o: %.c $(OBJ)/flags
	$(call say,CLANG,$@)
	$(Q)mkdir -p $(@D) && $(CLANG) $(CPPFLAGS_ALL) $(LANGUAGE) $(CLANG_WARNINGS) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/man/%: man/%
	$(Q)mkdir -p $(@D) && cp $< $@

# The key reference comes from the same table that the parser reads.
$(BUILD)/man/%.5: man/%.5.in $(BUILD)/headgate
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D) && $(BUILD)/headgate schema --mdoc > $@.keys
	$(Q)sed -e '/^@KEYS@$$/{r $@.keys' -e 'd}' $< > $@ && rm -f $@.keys

$(BUILD)/man/%.7: man/%.7.in $(BUILD)/headgate
	$(call say,MAN,$@)
	$(Q)mkdir -p $(@D) && $(BUILD)/headgate schema --metrics > $@.list
	$(Q)sed -e '/^@METRICS@$$/{r $@.list' -e 'd}' $< > $@ && rm -f $@.list

# Written only when the content differs, so that their time is that of the last change.
$(OBJ)/flags: FORCE
	@command -v $(CC) >/dev/null && pkg-config --exists $(PKGS) $(DEMO_PKGS) || \
	    { echo "A compiler or a library is missing: \`make deps\` installs them." >&2; exit 1; }
	@mkdir -p $(@D)
	@$(call if-changed,$(CC) $(CPPFLAGS) $(CFLAGS_ALL) | $(CLANG) $(FUZZ_FLAGS) | $(VERSION))
$(OBJ)/lib.list: FORCE
	@mkdir -p $(@D)
	@$(call if-changed,$(LIB_SRC))
if-changed = printf '%s\n' '$(1)' | cmp -s - $@ || printf '%s\n' '$(1)' > $@
FORCE:

.SECONDARY:
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)

# ---- to run it ----------------------------------------------------------------------------------

deps: ## install the Debian packages that building and running need
	$(Q)mk/deps run
deps-test: ## ... and those that the tests need
	$(Q)mk/deps run test

# A new make for the build: what `deps` installed (pkg-config, libraries) is seen only by that one.
run: deps ## the demo, in the foreground
	$(Q)$(MAKE) all
	$(Q)mk/demo-web $(BUILD) || :
	$(Q)exec setpriv --pdeathsig TERM mk/demo $(BUILD)

# ---- to test it ---------------------------------------------------------------------------------

test: deps-test ## every test; the last line is "N passed, N failed"
	$(Q)$(MAKE) all units fuzzers
	-$(Q)mk/node
	-$(Q)mk/go
	$(Q)BUILD=$(BUILD) exec tests/run $(TESTS)

asan: deps-test ## the same under AddressSanitizer and UBSan, in build/asan
	$(Q)$(MAKE) BUILD=build/asan FLAVOUR=asan all units
	-$(Q)mk/node
	-$(Q)mk/go
	$(Q)BUILD=build/asan exec tests/run $(TESTS)

# Without npm's registry only the cases fail that need it, each with the reason.
node: deps-test ## the clients and servers from npm (tests/node), into build/node
	$(Q)mk/node

FUZZ_SECONDS ?= 600
fuzz: deps-test ## each fuzzer for FUZZ_SECONDS (600); new inputs stay in build/fuzz
	$(Q)$(MAKE) fuzzers
	$(Q)mk/fuzz $(BUILD) $(FUZZ_SECONDS)

bench: deps-test ## beside nginx, haproxy, h2o, nghttpx and caddy; ROWS=PATTERN picks rows
	$(Q)$(MAKE) all benches
	$(Q)BUILD=$(BUILD) ROWS='$(ROWS)' exec tests/bench/run

lint: deps-test ## format, sizes, include directions, forbidden calls, clang-tidy, man pages, scripts
	$(Q)$(MAKE) all man
	$(Q)BUILD=$(BUILD) mk/lint
	$(Q)$(MAKE) lint-tidy

# A stamp a file: what did not change is not looked at again, nor are the headers that it includes
# (its object is made anew when one of those changes). Tests have compilers and sanitizers.
lint-tidy: $(patsubst %.c,$(OBJ)/tidy/%.ok,$(SOURCES) $(DEMO_SRC))
$(OBJ)/tidy/%.ok: %.c .clang-tidy $(OBJ)/%.o
	$(call say,TIDY,$<)
	$(Q)mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- -std=gnu17 $(CPPFLAGS_ALL) > $@.out 2>&1 || { cat $@.out; exit 1; }
	$(Q)mv $@.out $@

format: deps-test ## rewrite the C files in the house style
	$(Q)clang-format -i $(ALL_C) $(HEADERS)
format-check: deps-test ## say which files are not in it
	$(Q)clang-format --dry-run -Werror $(ALL_C) $(HEADERS)

ci: ## what the build server runs
	$(Q).ci/run

screenshot: deps-test ## take conf/demo/screenshot.png anew from the running demo
	$(Q)$(MAKE) all
	$(Q)mk/demo-web $(BUILD)
	$(Q)mk/screenshot $(BUILD)

# ---- to keep it ---------------------------------------------------------------------------------

# Nothing here builds as root what `make` built as the user: `make && sudo make install`.
install: all man ## into DESTDIR and PREFIX (/usr/local)
	$(Q)install -Dm755 $(BUILD)/headgate $(DESTDIR)$(PREFIX)/bin/headgate
	$(Q)for page in $(MAN); do \
	    install -Dm644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done
	$(Q)install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/headgate/examples conf/example.yaml
	$(Q)for unit in $(UNITS_SYSTEMD); do \
	    install -d $(DESTDIR)$(PREFIX)/lib/systemd/system && \
	    sed 's,/usr/local/bin/,$(PREFIX)/bin/,' "conf/$$unit" > "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit"; done
	$(Q)install -Dm644 conf/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/headgate
	$(Q)install -Dm644 conf/completion.zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_headgate
	$(Q)install -Dm644 conf/headgate.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/headgate.conf
	$(Q)install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/headgate README.md

uninstall: ## what install put there; configuration and state stay
	$(Q)rm -f $(DESTDIR)$(PREFIX)/bin/headgate
	$(Q)rm -f $(DESTDIR)$(PREFIX)/share/man/man8/headgate.8 $(DESTDIR)$(PREFIX)/share/man/man5/headgate.yaml.5 $(DESTDIR)$(PREFIX)/share/man/man7/headgate-metrics.7
	$(Q)rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(UNITS_SYSTEMD)) \
	    $(DESTDIR)$(PREFIX)/lib/sysusers.d/headgate.conf $(DESTDIR)$(PREFIX)/share/bash-completion/completions/headgate \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_headgate
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/share/doc/headgate

clean: ## everything that was built, the demo's state too
	$(Q)rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target what; do \
	    printf '  make %-13s %s\n' "$$target" "$$what"; done
