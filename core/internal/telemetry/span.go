package telemetry

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Name is the name of a span.
type Name string

// The spans.
const (
	SpanCallback Name = "polycred.connect.callback" // a connect session that was answered, until its outcome is stored
	SpanKey      Name = "polycred.connect.key"      // an API key, until it is stored
	SpanExchange Name = "polycred.exchange"         // the code is exchanged for tokens
	SpanIdentify Name = "polycred.identify"         // whose account answered
	SpanRefresh  Name = "polycred.refresh"          // from the wish to refresh until its outcome is stored
	SpanRevoke   Name = "polycred.revoke"           // the provider is asked to revoke a grant
	SpanRequest  Name = "polycred.request"          // a request of a client, until the head of its answer
	SpanServed   Name = "polycred.http.request"     // a request to the HTTP API, until it is answered
)

var spans = []Name{SpanCallback, SpanKey, SpanExchange, SpanIdentify, SpanRefresh, SpanRevoke, SpanRequest, SpanServed}

// outward are the spans that end at a provider's answer.
var outward = []Name{SpanExchange, SpanIdentify, SpanRevoke, SpanRequest}

// resultPanic is the result of a span whose work did not get to its end.
const resultPanic = "panic"

// Span is work that a trace shows. It is for one goroutine. End it with defer, directly:
//
//	ctx, span := instruments.Start(ctx, telemetry.SpanRevoke, integration, credential)
//	defer span.End()
//	err := work(ctx)
//	span.Result(codeOf(err))
//
// An SDK writes the value of a panic into the span whose own End is deferred, and that could be anything; behind this End
// it does not see the panic.
type Span struct {
	span   trace.Span
	result string
}

// The kinds of spans, made once.
var (
	internalKind = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindInternal)}
	serverKind   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	clientKind   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}
)

// Start begins a span, below the one in ctx if there is one. Both names may be empty; credential is an id.
func (i *Instruments) Start(ctx context.Context, name Name, integration, credential string) (context.Context, *Span) {
	kind := internalKind
	switch {
	case name == SpanServed:
		kind = serverKind
	case slices.Contains(outward, name):
		kind = clientKind
	}
	ctx, span := i.tracer.Start(ctx, string(name), kind...)
	if span.IsRecording() { // attributes cost, and most spans are nobody's
		if integration != "" {
			span.SetAttributes(keyIntegration.String(integration))
		}
		if credential != "" {
			span.SetAttributes(keyCredential.String(credential))
		}
	}
	return ctx, &Span{span: span, result: resultPanic}
}

// Trigger says what a refresh was begun for.
func (s *Span) Trigger(trigger Trigger) { s.span.SetAttributes(keyTrigger.String(string(trigger))) }

// Credential names the credential that the work turned out to be about.
func (s *Span) Credential(id string) {
	if id != "" {
		s.span.SetAttributes(keyCredential.String(id))
	}
}

// Answered is Result for a request to which an answer came.
func (s *Span) Answered(status int) {
	if s.span.IsRecording() { // attributes cost, and most spans are nobody's
		s.span.SetAttributes(keyStatus.Int(status))
	}
	s.result = ResultOK
	if status >= 400 {
		s.result = strconv.Itoa(status) // as OpenTelemetry has it for HTTP clients
	}
}

// Served is Result for a request to the HTTP API that was answered; what the client did wrong is no error here, as
// OpenTelemetry has it for HTTP servers. Route is as for Instruments.Served.
func (s *Span) Served(route string, status int) {
	if s.span.IsRecording() {
		s.span.SetAttributes(keyRoute.String(cmp.Or(route, other)), keyStatus.Int(status))
	}
	s.result = ResultOK
	if status >= 500 {
		s.result = strconv.Itoa(status)
	}
}

// Method names the method of a request.
func (s *Span) Method(method string) {
	if s.span.IsRecording() {
		s.span.SetAttributes(keyMethod.String(methodOf(method)))
	}
}

// methodOf returns a method as it is told. One that is not of RFC 9110 or 5789 is not: it could be anything.
func methodOf(method string) string {
	switch {
	case method == "": // as net/http understands it
		return "GET"
	case !slices.Contains(methods, method):
		return other
	}
	return method
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}

// Result says how the work ended: ResultOK, or a code of a fixed list, never the text of an error. Without it End takes
// the work for cut off by a panic.
func (s *Span) Result(code string) { s.result = code }

// End ends the span.
func (s *Span) End() {
	if s.result != ResultOK {
		s.span.SetAttributes(keyErrorType.String(s.result))
		s.span.SetStatus(codes.Error, s.result)
	}
	s.span.End()
}
