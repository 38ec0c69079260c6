package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/googleapis/gapic-showcase/client"
	pb "github.com/googleapis/gapic-showcase/server/genproto"
	"github.com/googleapis/gax-go/v2/apierror"
	"github.com/googleapis/gax-go/v2/callctx"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// tour plays what people do with the other services, with Google's generated REST clients.
func tour(url string, options []option.ClientOption) error {
	ctx := context.Background()
	echo, err := client.NewEchoRESTClient(ctx, options...)
	if err != nil {
		return err
	}
	defer echo.Close()
	tourEcho(url, echo)
	tourPages(echo)
	tourStreams(echo)
	return tourResources(options)
}

// ensure makes an error unless something holds.
func ensure(holds bool, format string, values ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, values...)
}

// refusal checks what a client makes of an error.
func refusal(err error, http int, reason string) error {
	var api *apierror.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("want an API error, got %v", err)
	}
	if api.HTTPCode() != http || api.Reason() != reason {
		return fmt.Errorf("want HTTP %d with reason %q, got %d, %q: %v", http, reason, api.HTTPCode(), api.Reason(), err)
	}
	return nil
}

func detailed(code codes.Code, reason string) (*spb.Status, error) {
	detail, err := anypb.New(&errdetails.ErrorInfo{Reason: reason, Domain: "suites", Metadata: map[string]string{"why": "asked for"}})
	return &spb.Status{Code: int32(code), Message: "refused: 100 % übel", Details: []*anypb.Any{detail}}, err
}

func tourEcho(url string, echo *client.EchoClient) {
	play("echo/a message", func(ctx context.Context) error {
		reply, err := echo.Echo(ctx, &pb.EchoRequest{
			Response: &pb.EchoRequest_Content{Content: "tab\t quote\" slash\\ ☺ \u2028"},
			Severity: pb.Severity_CRITICAL,
		})
		if err != nil {
			return err
		}
		same := reply.GetContent() == "tab\t quote\" slash\\ ☺ \u2028" && reply.GetSeverity() == pb.Severity_CRITICAL
		return ensure(same, "got %v", reply)
	})
	for code, status := range map[codes.Code]int{
		codes.InvalidArgument: 400, codes.Unauthenticated: 401, codes.PermissionDenied: 403, codes.NotFound: 404,
		codes.Aborted: 409, codes.ResourceExhausted: 429, codes.Canceled: 499, codes.DataLoss: 500,
		codes.Unimplemented: 501, codes.DeadlineExceeded: 504,
	} {
		play(fmt.Sprintf("echo/an error of code %s with details", code), func(ctx context.Context) error {
			failure, err := detailed(code, "ASKED_FOR")
			if err != nil {
				return err
			}
			// Of the methods that fail as they are told, the one that the client does not repeat.
			_, err = echo.Block(ctx, &pb.BlockRequest{Response: &pb.BlockRequest_Error{Error: failure}})
			if refused := refusal(err, status, "ASKED_FOR"); refused != nil {
				return refused
			}
			return ensure(strings.Contains(err.Error(), failure.GetMessage()), "the message is not in %v", err)
		})
	}
	play("echo/details as a message of a reply", func(ctx context.Context) error {
		reply, err := echo.EchoErrorDetails(ctx, &pb.EchoErrorDetailsRequest{SingleDetailText: "one", MultiDetailText: []string{"two", "three"}})
		if err != nil {
			return err
		}
		info := &errdetails.ErrorInfo{}
		if err := reply.GetSingleDetail().GetError().GetDetails().UnmarshalTo(info); err != nil {
			return err
		}
		several := reply.GetMultipleDetails().GetError().GetDetails()
		return ensure(info.GetReason() == "one" && len(several) == 2, "got %v", reply)
	})
	play("echo/the client's deadline", func(ctx context.Context) error {
		limited := callctx.SetHeaders(ctx, "x-server-timeout", "0.3")
		_, err := echo.Block(limited, &pb.BlockRequest{ResponseDelay: durationpb.New(2 * time.Second)})
		var api *apierror.APIError
		return ensure(errors.As(err, &api) && api.HTTPCode() == http.StatusGatewayTimeout, "want 504, got %v", err)
	})
	play("echo/a long-running operation", func(ctx context.Context) error {
		operation, err := echo.Wait(ctx, &pb.WaitRequest{
			End:      &pb.WaitRequest_Ttl{Ttl: durationpb.New(time.Hour)},
			Response: &pb.WaitRequest_Success{Success: &pb.WaitResponse{Content: "done"}},
		})
		if err != nil {
			return err
		}
		return ensure(strings.HasPrefix(operation.Name(), "operations/"), "got %q", operation.Name())
	})
	// The generated client has no streams of requests over REST.
	for kind, body := range map[string]string{
		"application/json":     `[{"content": "one"}, {"content": "two"}]`,
		"application/x-ndjson": "{\"content\": \"one\"}\n{\"content\": \"two\"}\n",
	} {
		play("echo/a stream of requests as "+kind, func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1beta1/echo:collect", strings.NewReader(body))
			if err != nil {
				return err
			}
			request.Header.Set("Content-Type", kind)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if err != nil {
				return err
			}
			reply := &pb.EchoResponse{}
			if err := protojson.Unmarshal(text, reply); err != nil {
				return fmt.Errorf("%s: %s", response.Status, text)
			}
			return ensure(reply.GetContent() == "one two", "got %v", reply)
		})
	}
}

func tourPages(echo *client.EchoClient) {
	const words = "amber birch birch cedar aspen"
	collect := func(pages *client.EchoResponseIterator) error {
		var got []string
		for {
			item, err := pages.Next()
			if err == iterator.Done {
				return ensure(strings.Join(got, " ") == words, "got %v", got)
			}
			if err != nil {
				return err
			}
			got = append(got, item.GetContent())
		}
	}
	play("pages/of two", func(ctx context.Context) error {
		return collect(echo.PagedExpand(ctx, &pb.PagedExpandRequest{Content: words, PageSize: 2}))
	})
	play("pages/with max_results", func(ctx context.Context) error {
		return collect(echo.PagedExpandLegacy(ctx, &pb.PagedExpandLegacyRequest{Content: words, MaxResults: 2}))
	})
	play("pages/of a map", func(ctx context.Context) error {
		pages := echo.PagedExpandLegacyMapped(ctx, &pb.PagedExpandRequest{Content: words, PageSize: 2})
		got := map[string][]string{}
		for {
			pair, err := pages.Next()
			if err == iterator.Done {
				break
			}
			if err != nil {
				return err
			}
			got[pair.Key] = append(got[pair.Key], pair.Value.GetWords()...)
		}
		same := slices.Equal(got["a"], []string{"amber", "aspen"}) && slices.Equal(got["b"], []string{"birch", "birch"})
		return ensure(same && len(got) == 3, "got %v", got)
	})
}

func tourStreams(echo *client.EchoClient) {
	// The client reads a JSON array, and does not say so by itself.
	array := func(ctx context.Context) context.Context {
		return callctx.SetHeaders(ctx, "accept", "application/json")
	}
	read := func(ctx context.Context, request *pb.ExpandRequest) (string, error) {
		stream, err := echo.Expand(array(ctx), request)
		if err != nil {
			return "", err
		}
		var got []string
		for {
			item, err := stream.Recv()
			if err == io.EOF {
				return strings.Join(got, " "), nil
			}
			if err != nil {
				return strings.Join(got, " "), err
			}
			got = append(got, item.GetContent())
		}
	}
	play("streams/of replies", func(ctx context.Context) error {
		got, err := read(ctx, &pb.ExpandRequest{Content: "one two three"})
		if err != nil {
			return err
		}
		return ensure(got == "one two three", "got %q", got)
	})
	play("streams/of nothing", func(ctx context.Context) error {
		got, err := read(ctx, &pb.ExpandRequest{})
		return errors.Join(err, ensure(got == "", "got %q", got))
	})
	play("streams/that fail midway are not taken for whole", func(ctx context.Context) error {
		failure, err := detailed(codes.Aborted, "ASKED_FOR")
		if err != nil {
			return err
		}
		got, err := read(ctx, &pb.ExpandRequest{Content: "one two", Error: failure})
		return ensure(err != nil, "got %q and no error", got)
	})
}
