package main

import (
	"fmt"
	"net"
	"os"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"github.com/googleapis/gapic-showcase/server"
	pb "github.com/googleapis/gapic-showcase/server/genproto"
	"github.com/googleapis/gapic-showcase/server/services"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The program of the showcase listens on all interfaces and does not tell a port that the kernel chose, so its
// services are put on a listener of our own.
func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	identity := services.NewIdentityServer()
	messaging := services.NewMessagingServer(identity)
	// Without the interceptors that watch calls for the testing service: they hold one lock over a whole call, and stop
	// for good when a call makes news for a stream.
	grpcServer := grpc.NewServer()
	pb.RegisterEchoServer(grpcServer, services.NewEchoServer())
	pb.RegisterSequenceServiceServer(grpcServer, services.NewSequenceServer())
	pb.RegisterIdentityServer(grpcServer, identity)
	pb.RegisterMessagingServer(grpcServer, messaging)
	pb.RegisterComplianceServer(grpcServer, services.NewComplianceServer())
	pb.RegisterTestingServer(grpcServer, services.NewTestingServer(server.ShowcaseObserverRegistry()))
	longrunningpb.RegisterOperationsServer(grpcServer, services.NewOperationsServer(messaging))
	location.RegisterLocationsServer(grpcServer, services.NewLocationsServer())
	iampb.RegisterIAMPolicyServer(grpcServer, services.NewIAMPolicyServer())
	fmt.Println(listener.Addr())
	return grpcServer.Serve(listener)
}

// Writes what protoc made of the contracts, with all that they import. Generated code carries it, without comments.
func writeDescriptors(file string) error {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(descriptor protoreflect.FileDescriptor) {
		if seen[descriptor.Path()] {
			return
		}
		seen[descriptor.Path()] = true
		imports := descriptor.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(descriptor))
	}
	for _, descriptor := range []protoreflect.FileDescriptor{
		pb.File_google_showcase_v1beta1_compliance_proto,
		pb.File_google_showcase_v1beta1_echo_proto,
		pb.File_google_showcase_v1beta1_identity_proto,
		pb.File_google_showcase_v1beta1_messaging_proto,
		pb.File_google_showcase_v1beta1_sequence_proto,
		pb.File_google_showcase_v1beta1_testing_proto,
		longrunningpb.File_google_longrunning_operations_proto,
		location.File_google_cloud_location_locations_proto,
		iampb.File_google_iam_v1_iam_policy_proto,
	} {
		add(descriptor)
	}
	encoded, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(file, encoded, 0o644)
}
