package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	pb "github.com/googleapis/gapic-showcase/server/genproto"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// callByRule sends a request of the compliance service as google/api/http.proto says it is mapped.
func callByRule(ctx context.Context, base, rpc string, request *pb.RepeatRequest, reply proto.Message) error {
	_, name, _ := strings.Cut(rpc, ".")
	method := pb.File_google_showcase_v1beta1_compliance_proto.Services().ByName("Compliance").Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return fmt.Errorf("there is no method %s", name)
	}
	rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	var refused error
	for _, binding := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		mapped, err := mapByRule(binding, request)
		if err != nil {
			refused = err
			continue
		}
		return send(ctx, base, mapped, reply)
	}
	return fmt.Errorf("no binding fits: %w", refused)
}

type mappedRequest struct {
	method, target string
	body           []byte
}

var variable = regexp.MustCompile(`\{([^}=]+)(?:=([^}]+))?\}`)

func mapByRule(rule *annotations.HttpRule, request proto.Message) (mappedRequest, error) {
	method, template := pattern(rule)
	// What path and body take is cleared here; the rest goes into the query.
	rest := proto.Clone(request).ProtoReflect()
	var refused error
	path := variable.ReplaceAllStringFunc(template, func(found string) string {
		parts := variable.FindStringSubmatch(found)
		text, err := take(rest, strings.Split(parts[1], "."))
		if err == nil && !fits(parts[2], text) {
			err = fmt.Errorf("%s=%q does not fit %s", parts[1], text, parts[2])
		}
		if err != nil {
			refused = err
		}
		if parts[2] == "" {
			return escape(text)
		}
		// The slashes of a variable of many segments are the path's own.
		segments := strings.Split(text, "/")
		for i := range segments {
			segments[i] = escape(segments[i])
		}
		return strings.Join(segments, "/")
	})
	if refused != nil {
		return mappedRequest{}, refused
	}
	mapped := mappedRequest{method: method, target: path}
	var err error
	switch body := rule.GetBody(); body {
	case "":
	case "*":
		mapped.body, err = protojson.Marshal(rest.Interface())
		return mapped, err
	default:
		field := rest.Descriptor().Fields().ByName(protoreflect.Name(body))
		mapped.body, err = protojson.Marshal(rest.Get(field).Message().Interface())
		rest.Clear(field)
	}
	query := url.Values{}
	if err == nil {
		err = fill(query, "", rest)
	}
	if len(query) > 0 {
		mapped.target += "?" + query.Encode()
	}
	return mapped, err
}

func pattern(rule *annotations.HttpRule) (method, template string) {
	switch kind := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, kind.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, kind.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, kind.Post
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, kind.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, kind.Delete
	default:
		return "", ""
	}
}

// take returns the text of a field and clears it.
func take(message protoreflect.Message, path []string) (string, error) {
	field := message.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	if field == nil {
		return "", fmt.Errorf("there is no field %s", path[0])
	}
	if len(path) > 1 {
		return take(message.Mutable(field).Message(), path[1:])
	}
	text, err := plain(message, field)
	message.Clear(field)
	return text, err
}

// fits says whether a value can stand for the segments of a variable.
func fits(template, text string) bool {
	if template == "" {
		return text != ""
	}
	expression := regexp.QuoteMeta(template)
	expression = strings.ReplaceAll(expression, `\*\*`, `.*`)
	expression = strings.ReplaceAll(expression, `\*`, `[^/]+`)
	return regexp.MustCompile("^" + expression + "$").MatchString(text)
}

// escape leaves only what RFC 3986 calls unreserved.
func escape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

// fill puts all set fields into a query.
func fill(query url.Values, prefix string, message protoreflect.Message) error {
	var failed error
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := prefix + field.JSONName()
		if field.Message() != nil {
			failed = fill(query, name+".", value.Message())
			return failed == nil
		}
		text, err := plain(message, field)
		query.Add(name, text)
		failed = err
		return failed == nil
	})
	return failed
}

// plain is a scalar as JSON writes it, without quotes.
func plain(message protoreflect.Message, field protoreflect.FieldDescriptor) (string, error) {
	value := message.Get(field)
	switch field.Kind() {
	case protoreflect.StringKind:
		return value.String(), nil
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			return string(known.Name()), nil
		}
		return fmt.Sprint(value.Enum()), nil
	case protoreflect.BytesKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return "", fmt.Errorf("field %s: the suite had no such kind", field.Name())
	default:
		return fmt.Sprint(value.Interface()), nil
	}
}

func send(ctx context.Context, base string, mapped mappedRequest, reply proto.Message) error {
	request, err := http.NewRequestWithContext(ctx, mapped.method, base+mapped.target, bytes.NewReader(mapped.body))
	if err != nil {
		return err
	}
	if mapped.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answers %s: %s", mapped.method, mapped.target, response.Status, text)
	}
	return protojson.Unmarshal(text, reply)
}
