package telemetrytest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Span is a span as it was told.
type Span struct {
	Name       string
	Parent     string // the name of the span above it; empty for none
	Kind       trace.SpanKind
	Attributes map[string]string
	Status     codes.Code
	Text       string   // of the status
	Events     []string // with their attributes
	Ended      int      // how often
}

// Spans returns the spans that were begun, in that order.
func (r *Recorder) Spans() []Span {
	r.mu.Lock()
	begun := slices.Clone(r.spans)
	r.mu.Unlock()
	all := make([]Span, len(begun))
	for i, s := range begun {
		all[i] = s.copy()
	}
	return all
}

type tracer struct {
	tracenoop.Tracer
	recorder *Recorder
}

func (t tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	c := trace.NewSpanStartConfig(options...)
	s := &span{recorder: t.recorder, told: Span{Name: name, Kind: c.SpanKind(), Attributes: map[string]string{}}}
	if parent, ok := trace.SpanFromContext(ctx).(*span); ok {
		s.told.Parent = parent.copy().Name
	}
	s.SetAttributes(c.Attributes()...)
	for _, link := range c.Links() {
		s.AddLink(link)
	}
	t.recorder.mu.Lock()
	t.recorder.spans = append(t.recorder.spans, s)
	t.recorder.mu.Unlock()
	return trace.ContextWithSpan(ctx, s), s
}

type span struct {
	tracenoop.Span
	recorder *Recorder

	mu   sync.Mutex // guards told
	told Span
}

func (s *span) copy() Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	told.Attributes = map[string]string{}
	for key, value := range s.told.Attributes {
		told.Attributes[key] = value
	}
	told.Events = slices.Clone(s.told.Events)
	return told
}

func (s *span) IsRecording() bool { return true }

func (s *span) TracerProvider() trace.TracerProvider { return s.recorder }

func (s *span) SetName(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Name = name
}

func (s *span) SetStatus(code codes.Code, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Status, s.told.Text = code, text
}

func (s *span) SetAttributes(attributes ...attribute.KeyValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range attributes {
		s.told.Attributes[string(a.Key)] = a.Value.String()
	}
}

func (s *span) AddEvent(name string, options ...trace.EventOption) {
	c := trace.NewEventConfig(options...)
	s.event(fmt.Sprintf("%s %v", name, c.Attributes()))
}

func (s *span) AddLink(link trace.Link) { s.event(fmt.Sprintf("link %v", link.Attributes)) }

func (s *span) RecordError(err error, _ ...trace.EventOption) {
	if err != nil {
		s.event(fmt.Sprintf("exception %T %v", err, err))
	}
}

func (s *span) event(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Events = append(s.told.Events, text)
}

// End writes a panic that goes on above it down, as the SDK's does.
func (s *span) End(...trace.SpanEndOption) {
	if recovered := recover(); recovered != nil {
		defer panic(recovered)
		s.event(fmt.Sprintf("exception %T %v", recovered, recovered))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Ended++
}
