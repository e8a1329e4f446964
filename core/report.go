package core

import (
	"maps"
	"strconv"
)

// Progress says how far work is that takes long.
type Progress struct {
	Done  int `json:"done"`  // credentials that were dealt with
	Total int `json:"total"` // as far as is known
}

// Report says what became of the credentials that DeleteUser or RevokeCredentials dealt with, each counted once, also
// where the work was cut short and carried on.
type Report struct {
	// Credentials is how many they are, Integrations how many of each integration.
	Credentials  int            `json:"credentials"`
	Integrations map[string]int `json:"integrations,omitempty"`

	// Queued, Unrevocable and Shared add up to Credentials. Queued are those whose authorisation the provider is
	// asked to end, from a queue: that it was, or could not be, is an event of its own. Unrevocable are those for
	// which nothing can be asked: API keys, integrations without revocation, accounts without tokens. Shared are
	// those whose authorisation other credentials still stand for, which would lose theirs (RevokesGrant).
	Queued      int `json:"queued"`
	Unrevocable int `json:"unrevocable"`
	Shared      int `json:"shared"`

	// Damaged are further credentials, whose records could not be read (sealed.CorruptError). DeleteUser removes them
	// all the same, and nobody can revoke what they held; RevokeCredentials leaves them as they are.
	Damaged int `json:"damaged"`
	// Sessions are the connect sessions of the user that were removed, also those that were over and not yet forgotten.
	Sessions int `json:"sessions"`
}

// reportRecord is a Report as it is stored.
type reportRecord struct {
	Integrations map[string]int `cbor:"1,keyasint,omitempty"`
	Queued       int            `cbor:"2,keyasint,omitempty"`
	Unrevocable  int            `cbor:"3,keyasint,omitempty"`
	Shared       int            `cbor:"4,keyasint,omitempty"`
	Damaged      int            `cbor:"5,keyasint,omitempty"`
	Sessions     int            `cbor:"6,keyasint,omitempty"`
}

// Plus implements job.Report.
func (r reportRecord) Plus(more reportRecord) reportRecord {
	sum := reportRecord{
		Integrations: maps.Clone(r.Integrations),
		Queued:       r.Queued + more.Queued, Unrevocable: r.Unrevocable + more.Unrevocable, Shared: r.Shared + more.Shared,
		Damaged: r.Damaged + more.Damaged, Sessions: r.Sessions + more.Sessions,
	}
	for name, n := range more.Integrations {
		if sum.Integrations == nil {
			sum.Integrations = map[string]int{}
		}
		sum.Integrations[name] += n
	}
	return sum
}

func (r reportRecord) public() Report {
	return Report{
		Credentials: r.Queued + r.Unrevocable + r.Shared, Integrations: r.Integrations,
		Queued: r.Queued, Unrevocable: r.Unrevocable, Shared: r.Shared, Damaged: r.Damaged, Sessions: r.Sessions,
	}
}

// details are what an event says of it.
func (r reportRecord) details() map[string]string {
	return map[string]string{
		"credentials": strconv.Itoa(r.Queued + r.Unrevocable + r.Shared),
		"queued":      strconv.Itoa(r.Queued), "unrevocable": strconv.Itoa(r.Unrevocable), "shared": strconv.Itoa(r.Shared),
		"damaged": strconv.Itoa(r.Damaged),
	}
}
