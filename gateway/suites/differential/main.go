// The same request to three gateways in front of one service.
//
//	differential serve                      the service; its address is the first line
//	differential grpc-gateway UPSTREAM      the peer that is made of Go; its address is the first line
//	differential play TABLE NAME=HOST:PORT… plays all rows, writes the table, prints one JSON object a row
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"steading.suites/differential/gen"
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
	case len(args) == 2 && args[0] == "grpc-gateway":
		return serveGateway(args[1])
	case len(args) > 2 && args[0] == "play":
		return play(args[1], args[2:])
	default:
		return fmt.Errorf("usage: differential serve | grpc-gateway UPSTREAM | play TABLE NAME=HOST:PORT…")
	}
}

func listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println(listener.Addr())
	}
	return listener, err
}

// serveGateway runs grpc-gateway as its documentation sets it up.
func serveGateway(upstream string) error {
	mux := runtime.NewServeMux()
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if err := gen.RegisterShopHandlerFromEndpoint(context.Background(), mux, upstream, options); err != nil {
		return err
	}
	listener, err := listen()
	if err != nil {
		return err
	}
	return http.Serve(listener, mux)
}
