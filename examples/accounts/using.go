package main

import (
	"context"
	"errors"
	"strings"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

func (d *demo) selectors(ctx context.Context) {
	d.chapter("rule 6", "A selector is an id, an external id, or \"ext:\" and an external id.")
	for _, name := range []string{d.b.ID, "private", "ext:private"} {
		as, err := d.seenAs(ctx, d.acme, of(name))
		d.happened("acme calls the provider's API as "+name, err, "the provider sees %s", as)
		d.check(as == "private@example.com", "the provider saw %s", as)
	}
	_, err := d.seenAs(ctx, d.acme, of("privat"))
	d.refused("acme calls as privat", err, core.ErrNotFound)
}

func (d *demo) noSilentChoice(ctx context.Context) {
	d.chapter("rule 7", "Where no account is named and several could be meant, nothing is chosen.")
	_, err := d.seenAs(ctx, d.acme, of(""))
	d.refused("acme calls and names none", err, core.ErrAmbiguous)
	var ambiguous *core.AmbiguousError
	if !errors.As(err, &ambiguous) || len(ambiguous.Candidates) != 3 {
		d.fail("error %v, want three candidates", err)
		return
	}
	d.say("    the person reads:  %s", core.Message(err))
	d.say("    the log says:      %v", ambiguous)
	for _, c := range ambiguous.Candidates {
		d.say("    the page offers:   %s  %-8s %-20s %s", c.ID, c.ExternalID, c.Account.Display, c.Label)
	}
}

func (d *demo) disconnect(ctx context.Context) {
	d.chapter("rule 8", "Disconnecting removes one account and leaves every other one working.")
	more, err := d.bob.CreateConfiguration(ctx, of("private"), core.ConfigurationInput{ExternalID: "shared"})
	d.happened("bob adds a configuration \"shared\" to private", err, "%s of %s", more.ID, more.Credential)
	err = d.bob.Disconnect(ctx, of("private"))
	d.happened("bob disconnects private", err, "%s is gone, with its configurations", d.b.ID)
	_, err = d.acme.Configuration(ctx, core.Selector{Configuration: more.ID})
	d.refused("acme asks for "+more.ID, err, core.ErrNotFound)
	for _, c := range []core.Credential{d.a, d.c} {
		as, err := d.seenAs(ctx, d.acme, of(c.ExternalID))
		d.happened("acme calls as "+c.ExternalID, err, "the provider sees %s", as)
		d.check(as == c.Account.Display, "the provider saw %s, want %s", as, c.Account.Display)
	}
	_, err = d.seenAs(ctx, d.acme, of("private"))
	d.refused("acme calls as private", err, core.ErrNotFound)
	_, err = d.seenAs(ctx, d.acme, of(d.b.ID))
	d.check(errors.Is(err, core.ErrNotFound), "a call by its id: %v", err)
	d.count(ctx, 2)
}

// authority shows what can be shown without user tokens, with which handles of fewer rights will come.
func (d *demo) authority(ctx context.Context) {
	d.chapter("rule 9", "The rules act only on what a handle may see; all else does not exist for it. Another user's handle:")
	other := d.engine.User("umbrella")
	_, err := d.seenAs(ctx, other, of(d.a.ID))
	d.refused("umbrella calls as "+d.a.ID, err, core.ErrNotFound)
	_, err = other.Credential(ctx, of("work"))
	d.refused("umbrella asks for work", err, core.ErrNotFound)
	own, err := d.connect(ctx, other, "work", core.ConnectInput{ExternalID: "work"})
	d.happened("umbrella connects work@example.com as \"work\"", err, "%s, of its own; no conflict, and no word of acme's", own.ID)
	d.check(own.ID != d.a.ID && own.User == "umbrella", "credential %+v", own)
}

func (d *demo) pending(ctx context.Context) {
	d.chapter("pending", "What has to be said before an account can be used makes it PENDING; until then it is never used.")
	only := core.Selector{Integration: crm}
	var err error
	d.crmA, err = d.connect(ctx, d.ada, "work", core.ConnectInput{Integration: crm})
	d.happened("ada connects work@example.com to "+crm, err, "%s, %s, missing: %v", d.crmA.ID, d.crmA.Status, d.crmA.Missing)
	d.check(d.crmA.Status == core.StatusPending, "the account is %s", d.crmA.Status)
	_, err = d.seenAs(ctx, d.acme, only)
	d.refused("acme calls and names none", err, core.ErrPending)
	_, err = d.connect(ctx, d.bob, "team", core.ConnectInput{Integration: crm})
	d.refused("bob connects team@example.com: rule 1 counts it", err, core.ErrAlreadyConnected)
	_, err = d.ada.CompleteSetup(ctx, only, map[string]any{"region": "mars"})
	d.malformed("ada says region mars", err)
	d.crmA, err = d.ada.CompleteSetup(ctx, only, map[string]any{"region": "eu"})
	d.happened("ada says region eu", err, "%s, %s", d.crmA.ID, d.crmA.Status)
	as, err := d.seenAs(ctx, d.acme, only)
	d.happened("acme calls and names none", err, "the provider sees %s", as)
	d.check(as == "work@example.com", "the provider saw %s", as)
}

func (d *demo) attribution(ctx context.Context) {
	d.chapter("rule 10", "Every use is attributed: which account, and which person. Uses are summed up, one event a minute.")
	for range 3 {
		_, err := d.seenAs(ctx, d.bob, of("work"))
		d.check(err == nil, "bob's call: %v", err)
	}
	d.happened("bob calls three times as work", nil, "one event, below: his name, the account, and how often")
}

// events prints the whole log. A program that runs on has "go engine.Run(ctx)" in place of Step, and a consumer that
// stores the number of the last event that it has dealt with, and goes on from there.
func (d *demo) events(ctx context.Context) {
	d.chapter("the event log", "Who did what to which account, why, and what came of it. None is skipped, and none holds a secret.")
	if err := coretest.Step(d.engine); err != nil {
		d.fail("%w", err)
		return
	}
	last, err := d.engine.LastEvent(ctx)
	if err != nil || last == 0 {
		d.fail("last event %d, %v", last, err)
		return
	}
	seen, number := map[core.EventKind]int{}, uint64(0)
	for ev, err := range d.engine.Subscribe(ctx, 0) {
		if err != nil {
			d.fail("%w", err)
			return
		}
		number++
		d.check(ev.Number == number, "event %d came in place of %d", ev.Number, number)
		seen[ev.Kind]++
		for _, secret := range []string{pin, folder, d.provider.ClientSecret(), "code-", "at-", "rt-"} {
			d.check(!strings.Contains(ev.String(), secret), "event %v tells a secret", ev)
		}
		d.say("  %2d %-23s %-9s %s", ev.Number, ev.Kind, actor(ev), told(ev))
		if ev.Kind == core.EventUsed {
			d.check(ev.Actor.Person == "bob" && ev.Credential == d.a.ID && ev.Details["count"] == "3", "event %v", ev)
		}
		if ev.Number == last {
			break
		}
	}
	for kind, want := range map[core.EventKind]int{
		core.EventConnected: 5, core.EventReconnected: 4, core.EventInvalidated: 2, core.EventConnectFailed: 4,
		core.EventDisconnected: 1, core.EventCompleted: 1, core.EventUsed: 1,
	} {
		d.check(seen[kind] == want, "%d events %s, want %d", seen[kind], kind, want)
	}
}
