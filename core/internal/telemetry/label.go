package telemetry

import (
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// The keys of labels and of attributes of spans.
const (
	keyIntegration = attribute.Key("polycred.integration")
	keyCredential  = attribute.Key("polycred.credential") // on spans only
	keyUse         = attribute.Key("polycred.token.use")
	keyClass       = attribute.Key("polycred.class")
	keyTrigger     = attribute.Key("polycred.trigger")
	keyOperation   = attribute.Key("polycred.operation")
	keyOutcome     = attribute.Key("polycred.outcome")
	keyResult      = attribute.Key("polycred.result")

	keyErrorType = attribute.Key("error.type")                // OpenTelemetry's own, as the next ones
	keyMethod    = attribute.Key("http.request.method")       // of requests of a client, and to the HTTP API
	keyStatus    = attribute.Key("http.response.status_code") // of requests of a client, and to the HTTP API
	keyRoute     = attribute.Key("http.route")                // of requests to the HTTP API
)

// ResultOK is the result of what ended well.
const ResultOK = "ok"

// other stands for what is not told apart, as in OpenTelemetry's semantic conventions.
const other = "_OTHER"

// Use says what a token was issued for.
type Use int

// The uses.
const (
	UseToken  Use = iota // the program took it: User.Token, User.TokenSource
	UseClient            // it was sent with a request of User.Client
	UseProxy             // it was sent with a request of User.Upstream
)

var uses = [...]string{UseToken: "token", UseClient: "client", UseProxy: "proxy"}

// Class says how a refresh ended.
type Class string

// The classes: those of core.FailureClass, and ok.
const (
	ClassOK            Class = ResultOK
	ClassPermanent     Class = "permanent"
	ClassTransient     Class = "transient"
	ClassRateLimited   Class = "rate_limited"
	ClassIndeterminate Class = "indeterminate"
)

var classes = []Class{ClassOK, ClassPermanent, ClassTransient, ClassRateLimited, ClassIndeterminate}

// ClassOf returns the class of a failed refresh by its name.
func ClassOf(name string) Class {
	for _, class := range classes {
		if string(class) == name {
			return class
		}
	}
	return other
}

// Trigger says what a refresh was begun for.
type Trigger string

// The triggers.
const (
	TriggerCaller       Trigger = "caller"       // somebody asked for a token that has ended, or is about to
	TriggerAhead        Trigger = "ahead"        // the scheduler, before anybody asks
	TriggerUnauthorized Trigger = "unauthorized" // the provider answered 401 to a token that looked good
)

var triggers = []Trigger{TriggerCaller, TriggerAhead, TriggerUnauthorized}

// Wait says how waiting for a lease ended.
type Wait string

// The ends of a wait.
const (
	WaitAcquired Wait = "acquired" // the lease was free by then
	WaitAdopted  Wait = "adopted"  // its holder had done the work
	WaitTimeout  Wait = "timeout"  // time ran out
	WaitError    Wait = "error"    // the store failed
)

var waits = []Wait{WaitAcquired, WaitAdopted, WaitTimeout, WaitError}

// Revocation says how an attempt to have a grant revoked ended.
type Revocation string

// The results of an attempt.
const (
	RevocationOK     Revocation = ResultOK
	RevocationFailed Revocation = "failed"   // it is tried again
	RevocationGaveUp Revocation = "given_up" // it is not
)

var revocations = []Revocation{RevocationOK, RevocationFailed, RevocationGaveUp}

// maxNames is how many integrations are told apart; SDKs stop at 2,000 sets of labels anyway.
const maxNames = 1000

// names keeps what belongs to the name of an integration, so that it is made once.
type names struct {
	known sync.Map // name → *name
	count atomic.Int64
}

type name struct {
	attribute attribute.KeyValue
	issued    [len(uses)][]metric.AddOption // whole slices: an interface's method has each variadic call make one
}

// of returns the labels of an integration. It is called with names of records alone, so of integrations that are, or
// were, declared; should they nevertheless become too many, the rest are one.
func (n *names) of(integration string) *name {
	if known, ok := n.known.Load(integration); ok {
		return known.(*name)
	}
	if n.count.Add(1) > maxNames {
		n.count.Add(-1)
		return rest
	}
	known, loaded := n.known.LoadOrStore(integration, newName(integration))
	if loaded {
		n.count.Add(-1)
	}
	return known.(*name)
}

func (n *names) forget(integration string) {
	if _, known := n.known.LoadAndDelete(integration); known {
		n.count.Add(-1)
	}
}

// rest are the labels of all integrations for which there is no room.
var rest = newName(other)

func newName(integration string) *name {
	made := &name{attribute: keyIntegration.String(integration)}
	for use, word := range uses {
		made.issued[use] = []metric.AddOption{
			metric.WithAttributeSet(attribute.NewSet(made.attribute, keyUse.String(word))),
		}
	}
	return made
}
