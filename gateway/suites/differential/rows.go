package main

import "strings"

// row is a request, and what it must be answered with; docs/gateway.md says why.
type row struct {
	name    string
	request string
	headers []string
	body    string
	// Headers of the answer that count.
	show []string
	// The body counts as it is.
	raw bool
	// What the answer has besides the request counts, not the request.
	whole bool
	want  string
}

var rows = []row{
	{name: "a variable of several segments", request: "GET /v1/shops/a/items/b", want: `200 {"name":"shops/a/items/b"}`},
	{name: "a custom verb", request: "POST /v1/shops/a/items/b:sell", body: `{"count":2}`, want: `200 {"count":2,"name":"shops/a/items/b"}`},
	{name: "an unknown verb", request: "POST /v1/shops/a/items/b:steal", body: `{}`, want: "404 error 404"},
	{name: "%3A in the last segment", request: "GET /v1/shops/a/items/b%3Asell", want: `200 {"name":"shops/a/items/b:sell"}`},
	{name: "%2F in a segment", request: "GET /v1/shops/a/items/b%2Fc", want: `200 {"name":"shops/a/items/b%2Fc"}`},
	{name: "any path", request: "GET /v1/files/a/b.txt", want: `200 {"path":"a/b.txt"}`},
	{name: "% in data", request: "GET /v1/files/100%25", want: `200 {"path":"100%"}`},
	{name: "an escaped escape", request: "GET /v1/files/a%2541", want: `200 {"path":"a%41"}`},
	{name: "a malformed escape", request: "GET /v1/files/%zz", want: `400 error 400 at ""`},
	{name: "a trailing slash", request: "GET /v1/shops/a/items/b/", want: "404 error 404"},
	{name: "an empty segment", request: "GET /v1/shops//a/items/b", want: "404 error 404"},
	{name: "a dot segment", request: "GET /v1/shops/a/../a/items/b", want: "404 error 404"},
	{name: "a wrong method", request: "DELETE /v1/shops/a/items/b", show: []string{"Allow"}, want: "405 allow: GET, HEAD, PATCH error 405"},
	{name: "HEAD", request: "HEAD /v1/shops/a/items/b", want: "200"},
	{name: "another origin", request: "GET /v1/shops/a/items/b", headers: []string{"Origin: http://other"}, show: []string{"Access-Control-Allow-Origin"}, want: `200 {"name":"shops/a/items/b"}`},
	{name: "an unknown query parameter", request: "GET /v1/shops/a/items/b?colour=red", want: `400 error 400 at "colour"`},
	{name: "a scalar twice in the query", request: "GET /v1/shops/a/items/b?count=1&count=2", want: `400 error 400 at "count"`},
	{name: "an unknown field in the body", request: "POST /v1/shops/a/items", body: `{"colour":"red"}`, want: `400 error 400 at "item.colour"`},
	{name: "an unknown enum value", request: "POST /v1/shops/a/items", body: `{"storage":"STORAGE_WET"}`, want: `400 error 400 at "item.storage"`},
	{name: "a key twice in the body", request: "POST /v1/shops/a/items", body: `{"count":1,"count":2}`, want: `400 error 400 at "item.count"`},
	{name: "garbage after the body", request: "POST /v1/shops/a/items", body: `{"count":1} x`, want: `400 error 400 at "item"`},
	{name: "a query parameter inside of the body's field", request: "POST /v1/shops/a/items?item.title=x", body: `{"count":1}`, want: `400 error 400 at "item.title"`},
	{name: "path against body", request: "POST /v1/shops/a/items/b:sell", body: `{"name":"shops/x/items/y"}`, want: `400 error 400 at "name"`},
	{name: "the largest float", request: "POST /v1/shops/a/items", body: `{"weight":3.4028235e38}`, want: `200 {"item":{"weight":3.4028235e+38},"parent":"shops/a"}`},
	{name: "unset fields of the reply", request: "GET /v1/shops/a/items/b", headers: []string{"Grpc-Timeout: 5S"}, whole: true, want: `200 {"deadline":true,"unsetText":""}`},
	{name: "a deadline without being asked", request: "GET /v1/shops/a/items/b", whole: true, want: `200 {"deadline":true,"unsetText":""}`},
	{name: "a body that is not JSON by its type", request: "POST /v1/shops/a/items", headers: []string{"Content-Type: text/plain"}, body: `{"count":1}`, want: "415 error 415"},
	{name: "PATCH without a mask", request: "PATCH /v1/shops/a/items/b", body: `{"title":"x","maker":{"city":"y"},"tags":["t"]}`, want: `200 {"item":{"maker":{"city":"y"},"name":"shops/a/items/b","tags":["t"],"title":"x"},"updateMask":"title,maker.city,tags"}`},
	{name: "PATCH with a mask", request: "PATCH /v1/shops/a/items/b?updateMask=count", body: `{"title":"x"}`, want: `200 {"item":{"name":"shops/a/items/b","title":"x"},"updateMask":"count"}`},
	{name: "a stream", request: "GET /v1/shops/a/items:watch", show: []string{"Content-Type"}, raw: true, want: `200 content-type: application/x-ndjson {"request":"1","unsetText":"","deadline":false}⏎{"request":"2","unsetText":"","deadline":false}⏎`},
	{name: "a stream as events", request: "GET /v1/shops/a/items:watch", headers: []string{"Accept: text/event-stream"}, show: []string{"Content-Type"}, raw: true, want: `200 content-type: text/event-stream data: {"request":"1","unsetText":"","deadline":false}⏎⏎data: {"request":"2","unsetText":"","deadline":false}⏎⏎`},
	{name: "a stream as an array", request: "GET /v1/shops/a/items:watch", headers: []string{"Accept: application/json"}, show: []string{"Content-Type"}, raw: true, want: `200 content-type: application/json [{"request":"1","unsetText":"","deadline":false},⏎{"request":"2","unsetText":"","deadline":false}]`},
	{name: "a stream that fails midway", request: "GET /v1/shops/broken/items:watch", want: `200 {"request":"1","unsetText":"","deadline":false}⏎{"request":"… cut off`},
	{name: "an error with an unknown detail", request: "GET /v1/failures/5", want: "404 error 404 with the detail"},
	{name: "an error about credentials", request: "GET /v1/failures/16", show: []string{"WWW-Authenticate"}, want: "401 www-authenticate: Bearer error 401 with the detail"},
	{name: "an etag of the service", request: "GET /v1/shops/a/items/b", show: []string{"Etag", "Grpc-Metadata-Etag"}, want: `200 etag: "7" {"name":"shops/a/items/b"}`},
	{name: "an etag that the client has", request: "GET /v1/shops/a/items/b", headers: []string{`If-None-Match: "7"`}, want: "304"},
	{name: "a body that is too large", request: "POST /v1/shops/a/items", body: `{"title":"` + strings.Repeat("x", 5<<20) + `"}`, want: "413 error 413"},
	{name: "a method without a rule", request: "POST /steading.differential.v1.Shop/Hide", body: `{"name":"a"}`, want: "404 error 404"},
	{name: "a description of the API", request: "GET /openapi.json", want: "200 another document"},
}
