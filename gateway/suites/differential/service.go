package main

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"steading.suites/differential/gen"
)

type shop struct {
	gen.UnimplementedShopServer
}

func serve() error {
	listener, err := listen()
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	gen.RegisterShopServer(server, shop{})
	return server.Serve(listener)
}

// answer tells what reached the service.
func answer(ctx context.Context, request proto.Message) (*gen.Answer, error) {
	text, err := protojson.Marshal(request)
	if err != nil {
		return nil, err
	}
	// protojson varies its blanks on purpose.
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	compact, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	_, deadline := ctx.Deadline()
	return &gen.Answer{Request: string(compact), Deadline: deadline}, grpc.SetHeader(ctx, metadata.Pairs("etag", `"7"`))
}

func (shop) GetItem(ctx context.Context, request *gen.GetItemRequest) (*gen.Answer, error) {
	return answer(ctx, request)
}

func (shop) CreateItem(ctx context.Context, request *gen.CreateItemRequest) (*gen.Answer, error) {
	return answer(ctx, request)
}

func (shop) UpdateItem(ctx context.Context, request *gen.UpdateItemRequest) (*gen.Answer, error) {
	return answer(ctx, request)
}

func (shop) SellItem(ctx context.Context, request *gen.SellItemRequest) (*gen.Answer, error) {
	return answer(ctx, request)
}

func (shop) ReadFile(ctx context.Context, request *gen.ReadFileRequest) (*gen.Answer, error) {
	return answer(ctx, request)
}

func (shop) Hide(ctx context.Context, request *gen.GetItemRequest) (*gen.Answer, error) {
	return answer(ctx, request)
}

func (shop) WatchItems(request *gen.WatchItemsRequest, stream grpc.ServerStreamingServer[gen.Answer]) error {
	for _, text := range []string{"1", "2"} {
		if err := stream.Send(&gen.Answer{Request: text}); err != nil {
			return err
		}
	}
	if request.GetParent() == "shops/broken" {
		return status.Error(codes.DataLoss, "broken")
	}
	return nil
}

func (shop) Fail(_ context.Context, request *gen.FailRequest) (*gen.Answer, error) {
	failure := status.New(codes.Code(request.GetCode()), "asked for").Proto()
	failure.Details = append(failure.Details, &anypb.Any{TypeUrl: "type.googleapis.com/nobody.knows.This", Value: []byte{8, 1}})
	return nil, status.FromProto(failure).Err()
}
