package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/googleapis/gapic-showcase/client"
	pb "github.com/googleapis/gapic-showcase/server/genproto"
	"github.com/googleapis/gapic-showcase/server/services"
	"google.golang.org/api/option"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// A case may take this long; most take a few milliseconds.
const patience = 20 * time.Second

// play runs one case and tells how it went: one line on standard output.
func play(name string, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	told := map[string]string{"case": name}
	if err := run(ctx); err != nil {
		told["error"] = err.Error()
	}
	// A map of strings always has a JSON form.
	_ = json.NewEncoder(os.Stdout).Encode(told)
}

func check(url string) error {
	ctx := context.Background()
	options := []option.ClientOption{option.WithEndpoint(url), option.WithoutAuthentication()}
	compliance, err := client.NewComplianceRESTClient(ctx, options...)
	if err != nil {
		return err
	}
	defer compliance.Close()
	if services.ComplianceSuiteStatus != services.ComplianceSuiteLoaded {
		return fmt.Errorf("the suite cannot be read: %s", services.ComplianceSuiteStatusMessage)
	}
	for _, group := range services.ComplianceSuite.GetGroup() {
		for _, rpc := range group.GetRpcs() {
			for _, request := range group.GetRequests() {
				compare(url, compliance, rpc, request)
			}
		}
	}
	checkEnums(compliance)
	return tour(url, options)
}

// compare sends one request of the suite twice, as its HTTP rule says and as Google's generated client does.
func compare(url string, compliance *client.ComplianceClient, rpc string, request *pb.RepeatRequest) {
	request = proto.Clone(request).(*pb.RepeatRequest)
	if request.IntendedBindingUri != nil {
		// A server of gRPC does not get to know the binding, and the showcase takes that for the wrong one. That
		// the fields come back as they were says the same: each binding has its own place for them.
		request.ServerVerify = false
	}
	expect := func(reply *pb.RepeatResponse, err error) error {
		if err != nil {
			return err
		}
		if diff := cmp.Diff(request, reply.GetRequest(), protocmp.Transform()); diff != "" {
			return fmt.Errorf("the echo differs: %s", diff)
		}
		return nil
	}
	play("rule/"+rpc+"/"+request.GetName(), func(ctx context.Context) error {
		reply := &pb.RepeatResponse{}
		return expect(reply, callByRule(ctx, url, rpc, request, reply))
	})
	play("gapic/"+rpc+"/"+request.GetName(), func(ctx context.Context) error {
		calls := map[string]func() (*pb.RepeatResponse, error){
			"Compliance.RepeatDataBody":         func() (*pb.RepeatResponse, error) { return compliance.RepeatDataBody(ctx, request) },
			"Compliance.RepeatDataBodyInfo":     func() (*pb.RepeatResponse, error) { return compliance.RepeatDataBodyInfo(ctx, request) },
			"Compliance.RepeatDataBodyPut":      func() (*pb.RepeatResponse, error) { return compliance.RepeatDataBodyPut(ctx, request) },
			"Compliance.RepeatDataBodyPatch":    func() (*pb.RepeatResponse, error) { return compliance.RepeatDataBodyPatch(ctx, request) },
			"Compliance.RepeatDataQuery":        func() (*pb.RepeatResponse, error) { return compliance.RepeatDataQuery(ctx, request) },
			"Compliance.RepeatDataSimplePath":   func() (*pb.RepeatResponse, error) { return compliance.RepeatDataSimplePath(ctx, request) },
			"Compliance.RepeatDataPathResource": func() (*pb.RepeatResponse, error) { return compliance.RepeatDataPathResource(ctx, request) },
			"Compliance.RepeatDataPathTrailingResource": func() (*pb.RepeatResponse, error) {
				return compliance.RepeatDataPathTrailingResource(ctx, request)
			},
		}
		call, known := calls[rpc]
		if !known {
			return fmt.Errorf("the suite has an RPC that is not known here")
		}
		return expect(call())
	})
}

// checkEnums sends back enum values that the server made up; one of them has no name in the contract.
func checkEnums(compliance *client.ComplianceClient) {
	for name, unknown := range map[string]bool{"a known value": false, "an unknown value": true} {
		play("gapic/Compliance.VerifyEnum/"+name, func(ctx context.Context) error {
			got, err := compliance.GetEnum(ctx, &pb.EnumRequest{UnknownEnum: unknown})
			if err != nil {
				return err
			}
			back, err := compliance.VerifyEnum(ctx, got)
			if err != nil {
				return err
			}
			// An empty message has no form in a query, so the request inside is not compared.
			return ensure(got.GetContinent() == back.GetContinent(), "sent %v, got %v", got, back)
		})
	}
}
