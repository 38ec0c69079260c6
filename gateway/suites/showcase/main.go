// The showcase API of Google's client generators, run through the gateway.
//
//	showcase serve                serves it over gRPC on a free port; the address is the first line it prints
//	showcase descriptors FILE     writes the descriptors that its contracts were compiled into
//	showcase check URL            plays all cases against a gateway at URL, and prints one JSON object a case
package main

import (
	"fmt"
	"os"
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
	case len(args) == 2 && args[0] == "check":
		return check(args[1])
	default:
		return fmt.Errorf("usage: showcase serve | descriptors FILE | check URL")
	}
}
