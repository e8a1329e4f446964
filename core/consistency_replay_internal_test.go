package core

import (
	gocmp "cmp"
	"maps"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// told is an account as events tell of it.
type told struct {
	User, Integration, ExternalID, Label string
	Status                               Status
	Configurations                       map[string]string // external ids, without that of the default one
}

// story is what events tell, one after the other.
type story struct {
	*crowd
	accounts     map[string]*told
	integrations map[string]bool
	revisions    map[string]uint64 // of credentials and configurations
}

// replay goes through the log from the beginning: it has to end with the accounts that are there.
func (c *crowd) replay() {
	c.Helper()
	s := story{crowd: c, accounts: map[string]*told{}, integrations: map[string]bool{}, revisions: map[string]uint64{}}
	number := uint64(0)
	for {
		entries, err := c.e.kernel.Events().Read(c.Context(), number, 0)
		if err != nil {
			c.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			ev := publicEvent(&entries[i])
			s.tell(&ev)
			number = ev.Number
		}
	}
	there := map[string]bool{}
	for _, row := range rows(c, c.e.tables.integrations) {
		there[row.Key[0]] = true
	}
	if !maps.Equal(there, s.integrations) {
		c.Errorf("integrations by the events = %v, want %v", s.integrations, there)
	}
	for _, row := range rows(c, c.e.tables.credentials) {
		s.compare(row.Key[0], &row.Value)
	}
	for id := range s.accounts {
		c.Errorf("the events tell of credential %s, which is not there", id)
	}
}

// tell takes one event into account.
func (s *story) tell(ev *Event) {
	s.Helper()
	switch ev.Kind {
	case EventIntegrationCreated:
		s.integrations[ev.Integration] = true
		return
	case EventIntegrationDeleted:
		delete(s.integrations, ev.Integration)
		return
	}
	if ev.Credential == "" || ev.Kind == EventUsed {
		return
	}
	about := ev.Credential
	if ev.Configuration != "" {
		about = "configuration " + ev.Credential + " " + ev.Configuration
	}
	if ev.Revision <= s.revisions[about] {
		s.Errorf("%s: revision of %s was %d before, want less", ev, about, s.revisions[about])
	}
	s.revisions[about] = ev.Revision

	account := s.accounts[ev.Credential]
	if (account == nil) != (ev.Kind == EventConnected) {
		s.Errorf("%s: is the account there before = %t", ev, account != nil)
		return
	}
	switch ev.Kind {
	case EventConnected:
		s.accounts[ev.Credential] = &told{
			User: ev.User, Integration: ev.Integration, ExternalID: ev.Details["externalId"], Label: ev.Details["label"],
			Status: Status(ev.Details["status"]), Configurations: map[string]string{},
		}
	case EventReconnected:
		account.Status = Status(ev.Details["status"])
		account.ExternalID = gocmp.Or(ev.Details["externalId"], account.ExternalID)
		account.Label = gocmp.Or(ev.Details["label"], account.Label)
	case EventCompleted:
		account.Status = StatusValid
	case EventInvalidated:
		account.Status = StatusInvalid
	case EventRenamed:
		s.renamed(ev, account)
	case EventDisconnected:
		if ev.Details["externalId"] != account.ExternalID {
			s.Errorf("%s: its external id was %q", ev, account.ExternalID)
		}
		delete(s.accounts, ev.Credential)
	default:
		s.configured(ev, account)
	}
}

func (s *story) renamed(ev *Event, account *told) {
	s.Helper()
	for what := range strings.SplitSeq(ev.Details["changed"], ",") {
		switch what {
		case "label":
			account.Label = ev.Details["label"]
		case "externalId":
			if ev.Details["previousExternalId"] != account.ExternalID {
				s.Errorf("%s: its external id was %q", ev, account.ExternalID)
			}
			account.ExternalID = ev.Details["externalId"]
		default:
			s.Errorf("%s: it tells of a change of %q", ev, what)
		}
	}
}

func (s *story) configured(ev *Event, account *told) {
	s.Helper()
	before, there := account.Configurations[ev.Configuration]
	isDefault := ev.Configuration == ev.Credential
	switch ev.Kind {
	case EventConfigurationCreated:
		if there || isDefault {
			s.Errorf("%s: it was there before", ev)
		}
		account.Configurations[ev.Configuration] = ev.Details["externalId"]
	case EventConfigurationUpdated:
		if !there && !isDefault {
			s.Errorf("%s: it is not there", ev)
		}
		if ev.Details["changed"] == "externalId" {
			account.Configurations[ev.Configuration] = ev.Details["externalId"]
		}
	case EventConfigurationDeleted:
		if !there || ev.Details["externalId"] != before {
			s.Errorf("%s: its external id was %q", ev, before)
		}
		delete(account.Configurations, ev.Configuration)
	}
}

// compare takes a credential as it is out of the story, after the two were found to be the same.
func (s *story) compare(user string, r *credentialRecord) {
	s.Helper()
	account := s.accounts[r.ID]
	delete(s.accounts, r.ID)
	is := told{
		User: user, Integration: r.Integration, ExternalID: r.ExternalID, Label: r.Label, Status: r.Status, Configurations: map[string]string{},
	}
	all, err := s.e.configurationRows(s.Context(), user, r)
	if err != nil {
		s.Fatal(err)
	}
	for _, row := range all[1:] {
		is.Configurations[row.Value.ID] = row.Value.ExternalID
	}
	if account == nil {
		s.Errorf("no event tells of credential %s", r.ID)
		return
	}
	if diff := cmp.Diff(is, *account); diff != "" {
		s.Errorf("credential %s differs from what the events tell (-is +told):\n%s", r.ID, diff)
	}
}
