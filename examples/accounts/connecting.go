package main

import (
	"context"
	"reflect"
	"time"

	"github.com/polycred/polycred/core"
)

// What no event may say.
const (
	pin    = "pin-4711"
	folder = "unpaid bills"
)

// settings connects the first account, and gives it what the rules must not lose.
func (d *demo) settings(ctx context.Context) {
	d.chapter("an account", "It has an id for life, a name of the application's, a label that people read, and settings with types.")
	var err error
	d.a, err = d.connect(ctx, d.ada, "work", core.ConnectInput{ExternalID: "work"})
	d.happened("ada connects work@example.com as \"work\"", err, "%s, %s, external id %q, owner %s", d.a.ID, d.a.Status, d.a.ExternalID, d.a.Owner)
	d.check(d.a.Status == core.StatusValid && d.a.Owner == "ada", "%+v, want a valid account of ada's", d.a)

	label := "Work calendar"
	d.a, err = d.ada.Rename(ctx, of("work"), core.RenameInput{Label: &label})
	d.happened("ada renames it", err, "label %q", d.a.Label)
	_, err = d.ada.UpdateConfiguration(ctx, of("work"), core.ConfigurationUpdate{Settings: map[string]any{"days": "many"}})
	d.malformed("ada sets days to \"many\"", err)
	got, err := d.ada.UpdateConfiguration(ctx, of("work"), core.ConfigurationUpdate{Settings: map[string]any{"days": 30, "pin": pin}})
	d.happened("ada sets days to 30, and a pin", err, "days %v, folder %q by default, pin %t but never shown", got.Settings["days"], got.Settings["folder"], len(got.Passwords) == 1)
	d.check(got.Settings["days"] == 30.0 && got.Settings["folder"] == "inbox" && got.Settings["pin"] == nil, "settings %v", got.Settings)
	more, err := d.ada.CreateConfiguration(ctx, of("work"), core.ConfigurationInput{ExternalID: "invoices", Settings: map[string]any{"folder": folder}})
	d.happened("ada adds a configuration \"invoices\" to it", err, "%s of %s, folder %q", more.ID, more.Credential, more.Settings["folder"])
	d.check(more.Credential == d.a.ID && more.Settings["days"] == 7.0, "configuration %+v", more)
}

func (d *demo) refuse(ctx context.Context) {
	d.chapter("rule 1", "Without AllowMultiple a second account is refused. If the only one has ended, it is reconnected in place.")
	_, err := d.connect(ctx, d.bob, "private", core.ConnectInput{})
	d.refused("bob connects private@example.com", err, core.ErrAlreadyConnected)

	before := d.configurations(ctx)
	d.end(ctx, "work")
	_, err = d.connect(ctx, d.bob, "private", core.ConnectInput{})
	d.refused("bob connects private@example.com", err, core.ErrAccountMismatch)
	again, err := d.connect(ctx, d.ada, "work", core.ConnectInput{})
	d.happened("ada connects work@example.com", err, "%s again, %s, still %q, settings kept", again.ID, again.Status, again.Label)
	d.check(again.ID == d.a.ID && again.Label == d.a.Label && again.Owner == "ada", "reconnected %+v, want %+v", again, d.a)
	d.check(reflect.DeepEqual(d.configurations(ctx), before), "the configurations are not what they were")
	d.a = again
}

func (d *demo) add(ctx context.Context) {
	d.chapter("rule 2", "With AllowMultiple an account is added, and nothing that exists changes.")
	var err error
	d.b, err = d.connect(ctx, d.bob, "private", core.ConnectInput{AllowMultiple: true})
	d.happened("bob connects private@example.com, AllowMultiple", err, "%s, %s, owner %s", d.b.ID, d.b.Status, d.b.Owner)
	a, err := d.acme.Credential(ctx, of(d.a.ID))
	d.check(err == nil && reflect.DeepEqual(a, d.a), "the first account changed: %+v, %v", a, err)
	d.count(ctx, 2)
}

func (d *demo) into(ctx context.Context) {
	d.chapter("rule 3", "Connecting into an account authorises that one anew. Another account answering is refused.")
	before := d.configurations(ctx)
	d.end(ctx, "work")
	_, err := d.connect(ctx, d.bob, "team", core.ConnectInput{Into: "work"})
	d.refused("bob connects into \"work\", signs in as team", err, core.ErrAccountMismatch)
	_, err = d.connect(ctx, d.bob, "private", core.ConnectInput{Into: "work"})
	d.refused("bob connects into \"work\", signs in as private", err, core.ErrAccountMismatch)
	again, err := d.connect(ctx, d.bob, "work", core.ConnectInput{Into: "work"})
	d.happened("bob connects into \"work\", signs in as work", err, "%s again, %s, still ada's, label and settings kept", again.ID, again.Status)
	d.check(again.ID == d.a.ID && again.Owner == "ada" && again.Label == d.a.Label, "reconnected %+v, want %+v", again, d.a)
	d.check(reflect.DeepEqual(d.configurations(ctx), before), "the configurations are not what they were")
	d.count(ctx, 2)
}

func (d *demo) sameAccount(ctx context.Context) {
	d.chapter("rule 4", "The same provider account again is the same credential, whoever connects it.")
	again, err := d.connect(ctx, d.ada, "private", core.ConnectInput{AllowMultiple: true})
	d.happened("ada connects private@example.com, AllowMultiple", err, "%s again, still %s's", again.ID, again.Owner)
	d.check(again.ID == d.b.ID && again.Owner == "bob", "credential %s of %s, want %s of bob", again.ID, again.Owner, d.b.ID)
	again, err = d.connect(ctx, d.bob, "private", core.ConnectInput{AllowMultiple: true, ExternalID: "private"})
	d.happened("bob connects it as \"private\", AllowMultiple", err, "%s again, external id %q: it had none", again.ID, again.ExternalID)
	d.check(again.ID == d.b.ID && again.ExternalID == "private", "credential %+v", again)
	_, err = d.connect(ctx, d.bob, "private", core.ConnectInput{AllowMultiple: true, ExternalID: "home"})
	d.refused("bob connects it as \"home\": it has another name", err, core.ErrExternalID)
	d.b = again
	d.count(ctx, 2)
}

func (d *demo) externalIDs(ctx context.Context) {
	d.chapter("rule 5", "An external id is the application's own name for an account, unique for user and integration.")
	_, err := d.connect(ctx, d.bob, "team", core.ConnectInput{AllowMultiple: true, ExternalID: "work"})
	d.refused("bob connects team@example.com as \"work\"", err, core.ErrExternalID)
	_, err = d.connect(ctx, d.bob, "team", core.ConnectInput{AllowMultiple: true, ExternalID: "  "})
	d.malformed("bob connects team@example.com as \"  \"", err)
	d.c, err = d.connect(ctx, d.bob, "team", core.ConnectInput{AllowMultiple: true, ExternalID: " ext:team "})
	d.happened("bob connects team@example.com as \" ext:team \"", err, "%s, external id %q", d.c.ID, d.c.ExternalID)
	d.check(d.c.ExternalID == "team", "external id %q, want it clean", d.c.ExternalID)
	d.count(ctx, 3)
}

// end has the provider end an account's grant, and lets time pass until a call notices it.
func (d *demo) end(ctx context.Context, account string) {
	d.provider.Revoke(account)
	d.clock.Advance(2 * time.Hour)
	_, err := d.seenAs(ctx, d.acme, of(account))
	d.refused(account+"@example.com removes the application; a call as it", err, core.ErrReconnect)
	c, err := d.acme.Credential(ctx, of(account))
	d.check(err == nil && c.Status == core.StatusInvalid, "the account is %s, %v, want it INVALID", c.Status, err)
}

// count checks how many accounts of the calendar the user has.
func (d *demo) count(ctx context.Context, want int) {
	page, err := d.acme.Credentials(ctx, core.ListInput{Integration: calendar})
	d.check(err == nil && len(page.Credentials) == want, "%d accounts, %v, want %d", len(page.Credentials), err, want)
}

func (d *demo) configurations(ctx context.Context) []core.Configuration {
	found, err := d.acme.Configurations(ctx, of("work"))
	d.check(err == nil && len(found) == 2 && found[0].Default && found[1].ExternalID == "invoices", "configurations %+v, %v", found, err)
	return found
}
