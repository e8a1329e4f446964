package coretest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// duration is a time.Duration that JSON carries as a string.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = duration(v)
	return nil
}

// plainSwitches is Switches without its methods.
type plainSwitches Switches

// switchesJSON is the JSON form: its own fields hide those of the same name further in.
type switchesJSON struct {
	plainSwitches
	GraceWindow duration `json:"graceWindow"`
}

// MarshalJSON is described at [Switches].
func (sw Switches) MarshalJSON() ([]byte, error) {
	return json.Marshal(switchesJSON{plainSwitches(sw), duration(sw.GraceWindow)})
}

// UnmarshalJSON is described at [Switches].
func (sw *Switches) UnmarshalJSON(b []byte) error {
	c := sw.clone()
	j := switchesJSON{plainSwitches(c), duration(c.GraceWindow)}
	if err := decodeStrict(b, &j); err != nil {
		return fmt.Errorf("decode switches: %w", err)
	}
	c = Switches(j.plainSwitches)
	c.GraceWindow = time.Duration(j.GraceWindow)
	if err := c.check(); err != nil {
		return fmt.Errorf("decode switches: %w", err)
	}
	*sw = c
	return nil
}

// check refuses texts that say nothing. In Go the compiler does, more or less.
func (sw *Switches) check() error {
	switch sw.PKCE {
	case "", PKCERequired, PKCEIgnored, PKCERefused:
	default:
		return fmt.Errorf("pkce is %q, not required, ignored or refused", sw.PKCE)
	}
	switch sw.RevokeRequests {
	case "", RevokeRequestsForm, RevokeRequestsBearer, RevokeRequestsDelete:
	default:
		return fmt.Errorf("revokeRequests is %q, not form, bearer or delete", sw.RevokeRequests)
	}
	switch sw.TokenRequests {
	case "", TokenRequestsForm, TokenRequestsJSON, TokenRequestsAny:
	default:
		return fmt.Errorf("tokenRequests is %q, not form, json or any", sw.TokenRequests)
	}
	switch sw.ExpiresIn {
	case "", ExpiresInNumber, ExpiresInString, ExpiresInAbsent:
	default:
		if !json.Valid([]byte(sw.ExpiresIn)) {
			return fmt.Errorf("expiresIn is %q, not number, string, absent or JSON", sw.ExpiresIn)
		}
	}
	return nil
}

// plainFault is Fault without its methods.
type plainFault Fault

// faultJSON is the JSON form of a Fault.
type faultJSON struct {
	plainFault
	Slow duration `json:"slow"`
}

// MarshalJSON is described at [Switches].
func (f Fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(faultJSON{plainFault(f), duration(f.Slow)})
}

// UnmarshalJSON is described at [Switches].
func (f *Fault) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*f = Fault{}
		return nil
	}
	j := faultJSON{plainFault(*f), duration(f.Slow)}
	if err := decodeStrict(b, &j); err != nil {
		return err
	}
	*f = Fault(j.plainFault)
	f.Slow = time.Duration(j.Slow)
	return nil
}

// decodeStrict refuses unknown names: the caller's own decoder cannot, since it does not look inside UnmarshalJSON.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
