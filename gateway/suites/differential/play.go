package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// Whose answers are held to what the row wants.
	own = "steading"
	// Of one request.
	patience = 20 * time.Second
	// Characters of an answer that nobody has words for.
	shown = 60
)

// play sends every row to every gateway.
func play(table string, named []string) error {
	var names, addresses []string
	for _, argument := range named {
		name, address, found := strings.Cut(argument, "=")
		if !found {
			return fmt.Errorf("not NAME=HOST:PORT: %s", argument)
		}
		names, addresses = append(names, name), append(addresses, address)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "| request | %s |\n|---%s|\n", strings.Join(names, " | "), strings.Repeat("|---", len(names)))
	for _, row := range rows {
		fmt.Fprintf(&text, "| %s |", row.name)
		result := map[string]string{"case": "rows/" + row.name}
		for i, name := range names {
			got := row.ask(addresses[i])
			fmt.Fprintf(&text, " %s |", strings.ReplaceAll(got, "|", `\|`))
			if name == own && got != row.want {
				result["error"] = fmt.Sprintf("want %s, got %s", row.want, got)
			}
		}
		text.WriteString("\n")
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			return err
		}
	}
	return os.WriteFile(table, []byte(text.String()), 0o644)
}

// ask sends the request as it is written, which Go's own client would not, and describes the answer.
func (row row) ask(address string) string {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err.Error()
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return err.Error()
	}
	method, _, _ := strings.Cut(row.request, " ")
	head := fmt.Sprintf("%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", row.request, address)
	for _, header := range row.headers {
		head += header + "\r\n"
	}
	if row.body != "" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(row.body))
		if !slices.ContainsFunc(row.headers, func(header string) bool { return strings.HasPrefix(header, "Content-Type:") }) {
			head += "Content-Type: application/json\r\n"
		}
	}
	// A body that is refused early may not be read to its end, so a failure to write is no answer yet.
	_, _ = io.WriteString(connection, head+"\r\n"+row.body)
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		return "no answer"
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	said := []string{fmt.Sprint(response.StatusCode)}
	for _, name := range row.show {
		if value := response.Header.Get(name); value != "" {
			said = append(said, strings.ToLower(name)+": "+value)
		}
	}
	if status := response.Header.Get("Grpc-Status"); status != "" {
		said = append(said, "grpc-status "+status)
	}
	said = append(said, row.describe(string(body)))
	if err != nil {
		said = append(said, "cut off")
	}
	return strings.TrimSpace(strings.Join(said, " "))
}

// describe says in a few words what a body is.
func (row row) describe(body string) string {
	var value map[string]any
	if row.raw || json.Unmarshal([]byte(body), &value) != nil {
		text := strings.TrimSpace(strings.ReplaceAll(body, "\n", "⏎"))
		if runes := []rune(text); len(runes) > shown && !row.raw {
			text = string(runes[:shown]) + "…"
		}
		return text
	}
	if request, found := value["request"]; found {
		if !row.whole {
			return fmt.Sprint(request)
		}
		delete(value, "request")
		rest, _ := json.Marshal(value)
		return string(rest)
	}
	// AIP-193 has the status inside of `error`, grpc-gateway has it bare.
	failure, wrapped := value["error"].(map[string]any)
	if !wrapped {
		failure = value
	}
	if failure["code"] == nil {
		return "another document"
	}
	words := []string{fmt.Sprintf("error %v", failure["code"])}
	details, _ := failure["details"].([]any)
	for _, detail := range details {
		detail, _ := detail.(map[string]any)
		violations, _ := detail["fieldViolations"].([]any)
		for _, violation := range violations {
			violation, _ := violation.(map[string]any)
			words = append(words, fmt.Sprintf("at %q", violation["field"]))
		}
		if url, _ := detail["@type"].(string); strings.Contains(url, "nobody") {
			words = append(words, "with the detail")
		}
	}
	return strings.Join(words, " ")
}
