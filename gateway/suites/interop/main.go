// The server of gRPC's interoperability tests on a free port of 127.0.0.1; the address is the first line it prints.
// The test's own program listens on all interfaces and does not tell a port that the kernel chose.
//
//	interop serve
//	interop descriptors FILE      writes the descriptors that its contract was compiled into
package main

import (
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve()
	case len(args) == 2 && args[0] == "descriptors":
		return writeDescriptors(args[1])
	default:
		return fmt.Errorf("usage: interop serve | descriptors FILE")
	}
}

func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// Reports of load come as a binary trailer.
	server := grpc.NewServer(orca.CallMetricsServerOption(nil))
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

func writeDescriptors(file string) error {
	test := testgrpc.File_grpc_testing_test_proto
	set := &descriptorpb.FileDescriptorSet{}
	imports := test.Imports()
	for i := range imports.Len() {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(imports.Get(i).FileDescriptor))
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(test))
	encoded, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(file, encoded, 0o644)
}
