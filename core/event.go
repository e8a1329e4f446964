package core

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polycred/polycred/core/internal/eventlog"
	"github.com/polycred/polycred/core/internal/kernel"
	"github.com/polycred/polycred/storage"
	"github.com/polycred/polycred/storage/sealed"
)

// Event says what happened to an account, a configuration or an integration: who did it, what, to which, why, and what
// came of it. It is stored together with the change that it tells of, or not at all. No field ever holds a token, a
// secret, the value of a setting, or what a provider wrote.
type Event struct {
	// Number is its place in the log: 1 and up, without gaps, in the order in which Subscribe gives them. It is the
	// cursor to go on from. Order between two users' events says nothing about which happened first; Time does.
	Number uint64    `json:"number"`
	ID     string    `json:"id"` // UUIDv7
	Time   time.Time `json:"time"`
	Kind   EventKind `json:"kind"`
	Actor  Actor     `json:"actor"`

	User          string `json:"user,omitempty"`          // whose account; empty for what an operator did
	Integration   string `json:"integration,omitempty"`   // its name
	Credential    string `json:"credential,omitempty"`    // its id
	Configuration string `json:"configuration,omitempty"` // its id
	// Revision is that of the credential, or of the configuration where there is one, once it was changed; 0 for events that
	// changed neither. It grows with each change: of two events about the same one, the later has the larger. Numbers have
	// the same order, unless two processes with different clocks made the changes within moments of each other.
	Revision uint64 `json:"revision,omitempty,string"`

	Cause   string            `json:"cause,omitempty"` // why; each kind says which there are
	Result  string            `json:"result"`          // "ok", or the code of what went wrong
	Details map[string]string `json:"details,omitempty"`
}

// Actor is who did it.
type Actor struct {
	Type    ActorType `json:"type"`
	Person  string    `json:"person,omitempty"`  // who acted for the connected user, as User.As had it
	TokenID string    `json:"tokenId,omitempty"` // of the user token that was shown
}

// ActorType is the kind of actor.
type ActorType string

// The types.
const (
	ActorUser     ActorType = "user"     // the connected user of the event, through a User handle
	ActorOperator ActorType = "operator" // who declares integrations
	ActorEngine   ActorType = "engine"   // polycred itself, while it refreshed or revoked tokens
)

// EventKind says what happened. Programs pass over kinds that they do not know: later versions have more.
type EventKind string

// The kinds. Every event has Number, ID, Time, Kind, Actor, Cause and Result. Unless its kind says otherwise,
//
//   - credential.… are by the user, and set User, Integration, Credential and Revision, the account's;
//   - configuration.… are by the user, and set Configuration too; Revision is the configuration's;
//   - user.… are by the operator, but user.updated by the user, and set User;
//   - integration.… and client_secret.set are by the operator, and set Integration;
//   - signing_key.…, token_issuer.… and policy.… are by the operator, about the project.
//
// All other fields stay empty. Result is "ok" where nothing else is said. Details are those named, each missing where there
// is nothing to say.
const (
	// EventConnected: a new credential is there. Cause: "connect" (over OAuth) or "key". Details: "status" (VALID, or
	// PENDING), "externalId", "label" and "owner" where it has them.
	EventConnected EventKind = "credential.connected"
	// EventReconnected: a credential was authorised anew. Cause: "into" (it was named), "ended" (it was the only one, and
	// INVALID), "same_account" (its account was connected once more). Details: "status"; "externalId" and "label" where it
	// was given that by this; "account": "replaced" when another provider account answered, which the integration allowed.
	EventReconnected EventKind = "credential.reconnected"
	// EventCompleted: all that was missing from a PENDING credential has been given; it is VALID now. Cause: "setup".
	EventCompleted EventKind = "credential.completed"
	// EventSetupChanged: values of its setup were changed, after it was complete. Cause: "setup". Details: "setup", the ids
	// of the inputs, separated by commas.
	EventSetupChanged EventKind = "credential.setup_changed"
	// EventRenamed: its external id or label was changed. Cause: "request". Details: "changed" ("label", "externalId", or
	// both with a comma), and what they are now: "label", "externalId", "previousExternalId", each missing where there is
	// none.
	EventRenamed EventKind = "credential.renamed"
	// EventInvalidated: its authorisation has ended; it has to be connected again. Actor: the engine. Cause: "refresh"; or
	// the operator, "revoke", who ended those of all accounts of the integration, see EventIntegrationRevoked. Result:
	// "revoked" then, else the code that the provider gave, such as "invalid_grant", or "permanent"; "no_refresh_token" when
	// there was nothing to refresh with. Details: "lost": "refresh_token" when the answer to a refresh before was lost, and
	// with it, most likely, the refresh token that would have been good.
	EventInvalidated EventKind = "credential.invalidated"
	// EventRefreshRefused: the answer to a refresh was for another provider account than the one that was connected; nothing
	// of it was stored. Told once until a refresh succeeds. Actor: the engine. Cause: "refresh". Result: "other_account".
	EventRefreshRefused EventKind = "credential.refresh_refused"
	// EventDisconnected: it is gone. Cause: "request"; "delete_user" when it went with its user, which is by the operator.
	// Details: "externalId" and "owner" where it had them; "grant": "shared" when another credential, of whatever user, stands
	// for the same grant at the provider; "record": "damaged" when it could not be read, and Integration then may be empty.
	EventDisconnected EventKind = "credential.disconnected"
	// EventRevoked: the tokens that it had were given back to the provider, or could not be, after it was disconnected or
	// RevokeCredentials ended its authorisation. Actor: the engine. No Revision. Cause: "revocation". Result: "ok" (the
	// provider took them, or knew that they were dead); "not_revoked" (the integration says by now that tokens are not
	// revoked); "misconfigured" (its revocation URL lacks a variable); else nobody tries any more, because of the code that
	// the provider gave or the class of the last failure: "permanent", "transient", "rate_limited", "indeterminate".
	// Details: "attempts", how often it was tried; "grant": "shared" when the tokens were not given back, or not all of
	// them, because another credential, of whatever user, would have lost its grant too; "left": "access_token" when that
	// cannot be revoked and has to run out.
	EventRevoked EventKind = "credential.revoked"
	// EventUsed sums up how often somebody with a name (Actor has a person or a token id) used a credential. Cause: "token"
	// (it was taken out), "client" (requests were sent) or "proxy" (requests were sent over HTTP), "picker"
	// (it went to a file picker in the user's browser). Details: "count", "first" and "last" (RFC 3339). At most one a
	// minute for each actor, credential and cause. What a program does on its own behalf is not counted. No Revision.
	EventUsed EventKind = "credential.used"
	// EventConnectFailed: a connect session ended without an account; one that nobody finishes in time is not told. Actor:
	// the user, who began it. User and Integration are set, and no Credential, also where one was to be connected into.
	// Cause: "connect". Result: the code of the error. Details: "session", its id.
	EventConnectFailed EventKind = "connect.failed"

	// EventConfigurationCreated: Cause: "request". Details: "externalId" where it has one.
	EventConfigurationCreated EventKind = "configuration.created"
	// EventConfigurationUpdated: Cause: "request". Details: "settings" and "meta", the names of what changed, separated by
	// commas; "changed": "externalId" when that changed, and then "externalId", what it is now, where it has one.
	EventConfigurationUpdated EventKind = "configuration.updated"
	// EventConfigurationDeleted: Cause: "request". Details: "externalId" where it had one. Configurations that go with
	// their credential have no event of their own.
	EventConfigurationDeleted EventKind = "configuration.deleted"
	// EventPasswordRead: the program read a setting or setup value of type password. It sets what configuration.… set, but
	// for Revision. Cause: "request". Details: "input", which one: "settings." or "setup." and its id.
	EventPasswordRead EventKind = "password.read"

	// EventIntegrationCreated, EventIntegrationUpdated, EventIntegrationDeleted: it was declared, changed, removed. Cause:
	// "request". Details of an update: "changed", the fields that differ, separated by commas, such as "oauth2.tokenUrl";
	// "secret": "replaced" when the client secret was replaced too.
	EventIntegrationCreated EventKind = "integration.created"
	EventIntegrationUpdated EventKind = "integration.updated"
	EventIntegrationDeleted EventKind = "integration.deleted"
	// EventClientSecretSet: the client secrets were replaced. Cause: "request". Details: "count", how many secrets live now.
	EventClientSecretSet EventKind = "client_secret.set"
	// EventSigningKeyAdded, EventSigningKeyRevoked: a key of user tokens lives from now on, or no more. These and the next four
	// are by the operator, about the project; nothing beside Details is set. Cause: "request". Details: "key", its id.
	EventSigningKeyAdded   EventKind = "signing_key.added"
	EventSigningKeyRevoked EventKind = "signing_key.revoked"
	// EventTokenIssuerSet, EventTokenIssuerDeleted: an issuer of user tokens was declared or changed, or is gone. Cause:
	// "request". Details: "issuer", its name.
	EventTokenIssuerSet     EventKind = "token_issuer.set"
	EventTokenIssuerDeleted EventKind = "token_issuer.deleted"
	// EventPolicySet, EventPolicyDeleted: a policy was declared or changed, or is gone. Cause: "request". Details: "policy",
	// its name.
	EventPolicySet     EventKind = "policy.set"
	EventPolicyDeleted EventKind = "policy.deleted"
	// EventUserUpdated: what is stored of a connected user (User.UpdateMeta) was changed, by the user. Cause: "request".
	// Details: "meta", the names of what changed, separated by commas.
	EventUserUpdated EventKind = "user.updated"
	// EventDisabled, EventEnabled: it was switched off, or on again, by the program. Cause: "request".
	EventDisabled EventKind = "credential.disabled"
	EventEnabled  EventKind = "credential.enabled"

	// EventUserDisabled, EventUserEnabled: all accounts of a user were switched off, or on again. Cause: "request".
	EventUserDisabled EventKind = "user.disabled"
	EventUserEnabled  EventKind = "user.enabled"
	// EventUserDeleted: a user is gone, with all accounts, of which each has its own event. Cause: "request". Details are
	// numbers: "credentials" that were removed; of these, "queued" whose authorisation the provider is asked to end,
	// "unrevocable" for which there is no way to ask, "shared" that others still use; "damaged", further ones that could not
	// be read; "sessions", connect sessions of whatever age.
	EventUserDeleted EventKind = "user.deleted"
	// EventIntegrationRevoked: all accounts that an integration had have lost their authorisation, of which each has its own
	// event where it was not INVALID before. Cause: "request". Details are numbers: "credentials", "queued", "unrevocable",
	// "shared" as for a user; "damaged", those that could not be read and stayed as they are.
	EventIntegrationRevoked EventKind = "integration.revoked"
	// EventTakenOver: a quarantined store was confirmed as the one to go on with. Actor: the operator. Nothing else is set.
	// Cause: "take_over".
	EventTakenOver EventKind = "store.taken_over"
)

const resultOK = "ok"

// String returns the event on one line. Control characters, and all that could pass for something else in a log, are
// escaped.
func (ev Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s actor=%s", ev.Number, ev.Time.UTC().Format(time.RFC3339Nano), ev.Kind, ev.Actor.Type)
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", name, strconv.QuoteToASCII(value))
		}
	}
	field("person", ev.Actor.Person)
	field("token", ev.Actor.TokenID)
	field("user", ev.User)
	field("integration", ev.Integration)
	field("credential", ev.Credential)
	field("configuration", ev.Configuration)
	if ev.Revision != 0 {
		fmt.Fprintf(&b, " revision=%d", ev.Revision)
	}
	field("cause", ev.Cause)
	field("result", ev.Result)
	for _, name := range slices.Sorted(maps.Keys(ev.Details)) {
		field(name, ev.Details[name])
	}
	return b.String()
}

// Subscribe returns the events behind the number after, oldest first, and goes on with those that come, until ctx is done
// or the engine closes: it ends by giving that as its one error. 0 begins with the oldest that is kept. Every event
// comes exactly once, in the order of its number, without gaps: a consumer that stores the number of each event that
// it has dealt with, and goes on from there, misses none and sees none twice.
//
// Events get their number from Run, in whichever process it runs; without it none comes. They are kept for
// Options.EventRetention. Errors: ErrCursor when some of those behind after are gone, or after was never reached (the
// store was restored from a backup): what was missed cannot be told; begin again with 0, or with LastEvent.
func (e *Engine) Subscribe(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		log := e.kernel.Events()
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			changed := log.Changed()
			entries, err := log.Read(ctx, after, 100)
			var removed *eventlog.RemovedError
			if after == 0 && errors.As(err, &removed) { // a consumer that begins has missed nothing
				after = removed.Oldest - 1
				continue
			}
			if e.ending.Load() {
				err = ErrClosed
			}
			if err != nil {
				yield(Event{}, fmt.Errorf("subscribe behind event %d: %w", after, cursorError(err)))
				return
			}
			for i := range entries {
				if !yield(publicEvent(&entries[i]), nil) {
					return
				}
				after = entries[i].Number
			}
			if len(entries) > 0 {
				continue
			}
			timer.Reset(time.Second) // another process may number them, or this engine close
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timer.C:
			}
			if ctx.Err() != nil {
				yield(Event{}, ctx.Err())
				return
			}
		}
	}
}

// LastEvent returns the number of the newest event, from which Subscribe goes on with what is still to come; 0 when there
// is none.
func (e *Engine) LastEvent(ctx context.Context) (uint64, error) {
	if e.ending.Load() {
		return 0, ErrClosed
	}
	_, newest, err := e.kernel.Events().Bounds(ctx)
	if err != nil {
		return 0, fmt.Errorf("last event: %w", err)
	}
	return newest, nil
}

// cursorError names the place that a consumer asked for and that the log does not have.
func cursorError(err error) error {
	var removed *eventlog.RemovedError
	var ahead *eventlog.AheadError
	switch {
	case errors.As(err, &removed):
		return fmt.Errorf("%w: the oldest that is kept is %d", ErrCursor, removed.Oldest)
	case errors.As(err, &ahead):
		return fmt.Errorf("%w: the newest is %d; was the store restored from a backup?", ErrCursor, ahead.Newest)
	}
	return err
}

func publicEvent(entry *eventlog.Entry[kernel.Event]) Event {
	ev := &entry.Value
	return Event{
		Number: entry.Number, ID: ev.ID, Time: time.UnixMilli(ev.Time).UTC(), Kind: EventKind(ev.Kind),
		Actor: Actor{Type: ActorType(ev.Actor), Person: ev.Person, TokenID: ev.TokenID},
		User:  ev.User, Integration: ev.Integration, Credential: ev.Credential, Configuration: ev.Configuration, Revision: ev.Revision,
		Cause: ev.Cause, Result: ev.Result, Details: ev.Details,
	}
}

// tell adds to tx what the handle did to a credential, which is at rev then.
func (u *User) tell(tx *sealed.Tx, kind EventKind, cause string, r *credentialRecord, rev storage.Rev, details map[string]string) {
	ev := u.event(kind, cause, r.Integration, r.ID, details)
	ev.Revision = uint64(rev)
	u.e.kernel.Emit(tx, ev)
}

func (u *User) event(kind EventKind, cause, integration, credential string, details map[string]string) kernel.Event {
	maps.DeleteFunc(details, func(_, value string) bool { return value == "" })
	return kernel.Event{
		Kind: string(kind), Actor: string(ActorUser), Person: u.person, TokenID: u.tokenID,
		User: u.id, Integration: integration, Credential: credential, Cause: cause, Result: resultOK, Details: details,
	}
}

// tellOperator adds to tx what an operator did.
func (e *Engine) tellOperator(tx *sealed.Tx, kind EventKind, cause, integration string, details map[string]string) {
	e.kernel.Emit(tx, kernel.Event{
		Kind: string(kind), Actor: string(ActorOperator), Integration: integration, Cause: cause, Result: resultOK, Details: details,
	})
}

// operator is the event of what an operator declared about user tokens.
func (e *Engine) operator(kind EventKind, details map[string]string) kernel.Event {
	return kernel.Event{Kind: string(kind), Actor: string(ActorOperator), Cause: "request", Result: resultOK, Details: details}
}
