// probe.go - probe.Probe on Debian's grpc-go, as tests/node has it in JavaScript: `probe serve ADDRESS`, and
// `probe client ADDRESS CA`, which reads a call a line as JSON and answers each with a line. note.js says what the words of a call
// mean, node_server.js what the methods do.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/ioutil"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // both sides can
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const service = "probe.Probe"

// Note is the one message, by protobuf's own runtime.
type Note struct {
	Text string `protobuf:"bytes,1,opt,name=text,proto3"`
	N    uint32 `protobuf:"varint,2,opt,name=n,proto3"`
}

func (n *Note) Reset()         { *n = Note{} }
func (n *Note) String() string { return fmt.Sprint(n.Text, n.N) }
func (*Note) ProtoMessage()    {}

func init() {
	proto.RegisterType((*Note)(nil), "probe.Note")
}

// Which side streams; all others are unary.
var kinds = map[string]grpc.StreamDesc{
	"FailAfter": {ServerStreams: true},
	"Count":     {ServerStreams: true},
	"Hang":      {ServerStreams: true},
	"Flood":     {ServerStreams: true},
	"Sum":       {ClientStreams: true},
	"Chat":      {ServerStreams: true, ClientStreams: true},
}

// ---- the server

func die() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

var live int32 // calls that wait for their end

func wait(s grpc.ServerStream) error {
	atomic.AddInt32(&live, 1)
	<-s.Context().Done()
	atomic.AddInt32(&live, -1)
	return status.FromContextError(s.Context().Err()).Err()
}

func fail(s grpc.ServerStream, n *Note) error {
	if n.Text == "late" {
		s.SendHeader(metadata.Pairs("x-begin", "1"))
	}
	s.SetTrailer(metadata.Pairs("x-why", "because"))
	st, err := status.New(codes.Code(n.N), "made to fail: ä%").WithDetails(&Note{Text: "why", N: 7})
	if err != nil {
		return err
	}
	return st.Err()
}

func meta(s grpc.ServerStream, n *Note) error {
	md, _ := metadata.FromIncomingContext(s.Context())
	head, tail := metadata.Pairs("x-two", "a", "x-two", "b"), metadata.Pairs("x-tail-two", "a", "x-tail-two", "b")
	for key, values := range md {
		if strings.HasPrefix(key, "x-echo") {
			head[key] = values
			tail["x-tail"+key[len("x-echo"):]] = values
		}
	}
	s.SetTrailer(tail)
	if err := s.SendHeader(head); err != nil {
		return err
	}
	return s.SendMsg(&Note{})
}

func sum(s grpc.ServerStream, _ *Note) error {
	total := &Note{Text: "sum"}
	for {
		n := new(Note)
		err := s.RecvMsg(n)
		if err == io.EOF {
			return s.SendMsg(total)
		} else if err != nil {
			return err
		}
		switch n.Text {
		case "die":
			die()
		case "enough":
			return s.SendMsg(&Note{Text: "enough", N: total.N})
		case "no":
			return fail(s, &Note{N: 9})
		}
		total.N += n.N
	}
}

func chat(s grpc.ServerStream, _ *Note) error {
	for {
		n := new(Note)
		if err := s.RecvMsg(n); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(n); err != nil {
			return err
		}
	}
}

// With the request's message, where the client sends one.
var methods = map[string]func(grpc.ServerStream, *Note) error{
	"Unary": func(s grpc.ServerStream, n *Note) error {
		if n.Text == "die" {
			die()
		}
		return s.SendMsg(&Note{Text: n.Text, N: n.N + 1})
	},
	"Fail": fail,
	"FailAfter": func(s grpc.ServerStream, n *Note) error {
		if err := s.SendMsg(&Note{Text: "one", N: 1}); err != nil {
			return err
		}
		return fail(s, n)
	},
	"Meta": meta,
	"Wait": func(s grpc.ServerStream, n *Note) error { return wait(s) },
	"Live": func(s grpc.ServerStream, n *Note) error { return s.SendMsg(&Note{N: uint32(atomic.LoadInt32(&live))}) },
	"Exit": func(s grpc.ServerStream, n *Note) error { die(); return nil },
	"Count": func(s grpc.ServerStream, n *Note) error {
		for i := uint32(0); i < n.N; i++ {
			if err := s.SendMsg(&Note{Text: n.Text, N: i}); err != nil {
				return err
			}
		}
		return nil
	},
	"Hang": func(s grpc.ServerStream, n *Note) error {
		if err := s.SendMsg(&Note{Text: "first", N: 1}); err != nil {
			return err
		}
		return wait(s)
	},
	"Flood": func(s grpc.ServerStream, n *Note) error {
		for {
			if err := s.SendMsg(&Note{Text: strings.Repeat("x", 100000), N: 1}); err != nil {
				return err
			}
		}
	},
	"Sum":  sum,
	"Chat": chat,
}

func handler(name string, do func(grpc.ServerStream, *Note) error) grpc.StreamHandler {
	return func(_ interface{}, s grpc.ServerStream) error {
		n := new(Note)
		if !kinds[name].ClientStreams {
			if err := s.RecvMsg(n); err != nil {
				return err
			}
		}
		return do(s, n)
	}
}

func serve(address string) error {
	desc := grpc.ServiceDesc{ServiceName: service, HandlerType: (*interface{})(nil)}
	for name, do := range methods {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: name, Handler: handler(name, do), ServerStreams: true, ClientStreams: true})
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 30))
	server.RegisterService(&desc, struct{}{})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("serving")
	return server.Serve(listener)
}

// ---- the client

type spec struct {
	Host, Method string
	Notes        []struct {
		Text string
		N    uint32
		Size int
	}
	Metadata    [][2]string
	Timeout     int
	Compress    bool
	Open, Flood bool
	AtFirst     string `json:"at_first"`
	WhenLive    string `json:"when_live"`
}

type seen struct {
	Code    string                   `json:"code"`
	Message string                   `json:"message"`
	Head    map[string]string        `json:"head"`
	Tail    map[string]string        `json:"tail"`
	Got     []map[string]interface{} `json:"got"`
}

var names = strings.Fields(`OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
	RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`)

func visible(md metadata.MD) map[string]string {
	out := map[string]string{}
	for key, values := range md {
		if !strings.HasPrefix(key, "x-") && key != "grpc-status-details-bin" {
			continue
		}
		for i := range values {
			if strings.HasSuffix(key, "-bin") {
				values[i] = hex.EncodeToString([]byte(values[i]))
			}
		}
		out[key] = strings.Join(values, ", ")
	}
	return out
}

func path(method string) string { return "/" + service + "/" + method }

func aside(cc *grpc.ClientConn, method string) *Note {
	n := new(Note)
	cc.Invoke(context.Background(), path(method), &Note{}, n)
	return n
}

func options(sp *spec) []grpc.CallOption {
	out := []grpc.CallOption{grpc.MaxCallRecvMsgSize(1 << 30)}
	if sp.Compress {
		out = append(out, grpc.UseCompressor("gzip"))
	}
	return out
}

// stream makes a call in which one side streams, and tells of each note until the call is over.
func stream(ctx context.Context, cc *grpc.ClientConn, sp *spec, notes []*Note, head, tail *metadata.MD, on func(*Note)) error {
	desc := kinds[sp.Method]
	s, err := cc.NewStream(ctx, &desc, path(sp.Method), options(sp)...)
	if err != nil {
		return err
	}
	go func() { // beside reading: who answers each message stops taking them while nobody reads
		for _, n := range notes {
			if s.SendMsg(n) != nil {
				return // RecvMsg says why
			}
		}
		if !sp.Open {
			s.CloseSend()
		}
	}()
	for {
		n := new(Note)
		err := s.RecvMsg(n)
		*head, _ = s.Header()
		if err != nil {
			*tail = s.Trailer()
			if err == io.EOF {
				return nil
			}
			return err
		}
		on(n)
		if !desc.ServerStreams {
			*tail = s.Trailer()
			return nil
		}
	}
}

func call(cc *grpc.ClientConn, sp *spec) seen {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if sp.Timeout != 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(sp.Timeout)*time.Millisecond)
		defer cancel()
	}
	for _, pair := range sp.Metadata {
		value := pair[1]
		if strings.HasSuffix(pair[0], "-bin") {
			bytes, _ := hex.DecodeString(value)
			value = string(bytes)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, pair[0], value)
	}
	var notes []*Note
	for _, n := range sp.Notes {
		notes = append(notes, &Note{Text: n.Text + strings.Repeat("x", n.Size), N: n.N})
	}
	out := seen{Got: []map[string]interface{}{}}
	on := func(n *Note) {
		note := map[string]interface{}{"text": n.Text, "n": n.N}
		if len(n.Text) > 1000 {
			note = map[string]interface{}{"size": len(n.Text), "n": n.N}
		}
		first := len(out.Got) == 0
		if first || !sp.Flood {
			out.Got = append(out.Got, note)
		}
		if first && sp.AtFirst == "cancel" {
			cancel()
		} else if first && sp.AtFirst == "kill" {
			go aside(cc, "Exit")
		}
	}
	if sp.WhenLive == "cancel" {
		go func() {
			for aside(cc, "Live").N == 0 {
			}
			cancel()
		}()
	}
	var head, tail metadata.MD
	var err error
	if _, streams := kinds[sp.Method]; streams {
		err = stream(ctx, cc, sp, notes, &head, &tail, on)
	} else {
		n := new(Note)
		err = cc.Invoke(ctx, path(sp.Method), notes[0], n, append(options(sp), grpc.Header(&head), grpc.Trailer(&tail))...)
		if err == nil {
			on(n)
		}
	}
	st := status.Convert(err)
	out.Code, out.Message = names[st.Code()], st.Message()
	out.Head, out.Tail = visible(head), visible(tail)
	if len(st.Proto().GetDetails()) > 0 { // to this client they are no metadata
		details, _ := proto.Marshal(st.Proto())
		out.Tail["grpc-status-details-bin"] = hex.EncodeToString(details)
	}
	return out
}

func client(address, ca string) error {
	pem, err := ioutil.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conns := map[string]*grpc.ClientConn{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		sp := new(spec)
		if err := json.Unmarshal(lines.Bytes(), sp); err != nil {
			return err
		}
		if conns[sp.Host] == nil {
			creds := credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: sp.Host})
			if conns[sp.Host], err = grpc.Dial(address, grpc.WithTransportCredentials(creds)); err != nil {
				return err
			}
		}
		line, err := json.Marshal(call(conns[sp.Host], sp))
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return lines.Err()
}

func main() {
	var err error
	if os.Args[1] == "serve" {
		err = serve(os.Args[2])
	} else {
		err = client(os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
