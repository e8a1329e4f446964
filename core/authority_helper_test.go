package core_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
	"github.com/polycred/polycred/core/input"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage"
)

const (
	appPage   = "http://127.0.0.1:1/app/connected" // of the application, at which a flow may end
	otherPage = "http://127.0.0.1:1/app/elsewhere"
)

// gate is a world with narrowed handles. Accounts are those of user "acme" unless a test says otherwise.
type gate struct {
	*world
	policies *core.NamedPolicies
}

// newGate opens an engine whose integrations, calendar with OAuth and mail with keys, have settings and a setup. What handles
// may do is what the gate's policies say.
func newGate(t *testing.T, store storage.Store, change func(*core.Options)) *gate {
	t.Helper()
	g := newTokenGate(t, store, change)
	g.policies = g.engine.NamedPolicies()
	return g
}

// newTokenGate is newGate where handles are narrowed as user tokens narrow them.
func newTokenGate(t *testing.T, store storage.Store, change func(*core.Options)) *gate {
	t.Helper()
	w := newWorld(t, store, func(o *core.Options) {
		o.RedirectURLs = []string{appPage, otherPage}
		if change != nil {
			change(o)
		}
	})
	g := &gate{world: w}
	inputs := func(in *core.Integration) {
		in.Settings = []input.Input{{ID: "folder", Type: input.Text}, {ID: "secret", Type: input.Password}}
		in.Setup = []input.Input{{ID: "site", Type: input.Text}, {ID: "pin", Type: input.Password}}
	}
	w.change(inputs)
	w.create(func(in *core.Integration) {
		in.Name, in.OAuth2 = "mail", nil
		in.APIKey = &core.APIKey{TestURL: w.provider.APIURL() + "/me"}
		in.Identity = core.Identity{Source: core.IdentityTest, SubjectPath: "subject", DisplayPath: "account"}
		inputs(in)
	})
	return g
}

// may is a policy that allows what it lists.
func may(actions ...core.Action) core.May {
	return func(a core.Action, _ core.Thing) bool {
		for _, allowed := range actions {
			if a == allowed {
				return true
			}
		}
		return false
	}
}

// only is a policy that allows everything for what fits, and nothing else.
func only(fits func(core.Thing) bool) core.May {
	return func(_ core.Action, to core.Thing) bool { return fits(to) }
}

// ownedBy is a policy that allows everything with what a person owns.
func ownedBy(person string) core.May {
	return only(func(to core.Thing) bool { return to.Owner == person })
}

var everything = []core.Action{
	core.ActRead, core.ActWrite, core.ActUse, core.ActToken, core.ActReadConfiguration, core.ActWriteConfiguration,
}

// acme is the unrestricted handle, acting for a person where one is named.
func (g *gate) acme(person string) *core.User {
	if person == "" {
		return g.engine.User("acme")
	}
	return g.engine.User("acme").As(person)
}

// narrow sets a policy and returns the handle of a token with it.
func (g *gate) narrow(person, name string, may core.May) *core.User {
	g.policies.Set(name, may)
	return g.policies.Narrow(g.acme(person), name, "token of "+name)
}

// mail connects an account of "mail" with a handle.
func (g *gate) mail(u *core.User, login string, in core.KeyInput) core.Credential {
	g.Helper()
	c, err := g.tryMail(u, login, in)
	if err != nil {
		g.Fatalf("AddKey(%s): %v", login, err)
	}
	return c
}

func (g *gate) tryMail(u *core.User, login string, in core.KeyInput) (core.Credential, error) {
	g.Helper()
	g.provider.AddKey("canary-key-of-"+login, login)
	in.Integration, in.Key, in.AllowMultiple = "mail", crypto.NewSecret("canary-key-of-"+login), in.Into == ""
	c, err := u.AddKey(context.Background(), in)
	return c, g.note(err)
}

// configure gives an account a configuration.
func (g *gate) configure(credential, externalID string) core.Configuration {
	g.Helper()
	c, err := g.acme("").CreateConfiguration(g.Context(), core.Selector{Credential: credential}, core.ConfigurationInput{
		ExternalID: externalID, Settings: map[string]any{"secret": "canary-secret"},
	})
	if err != nil {
		g.Fatal(err)
	}
	return c
}

// start begins a session with a handle; the browser is the person's only one.
func (g *gate) start(u *core.User, in core.ConnectInput) (*core.ConnectSession, error) {
	g.Helper()
	in.Integration, in.Browser = calendar, "the browser"
	session, err := u.Connect(g.Context(), in)
	return session, g.note(err)
}

// flow connects an account of calendar with a handle, all the way; between happens while the person is at the provider.
func (g *gate) flow(u *core.User, login string, in core.ConnectInput, between ...func()) (*core.ConnectResult, error) {
	g.Helper()
	session, err := g.start(u, in)
	if err != nil {
		return nil, err
	}
	callback := g.consent(session, login, calendar, "the browser")
	for _, do := range between {
		do()
	}
	result, err := g.engine.Callback(g.Context(), callback)
	return result, g.note(err)
}

func (g *gate) mustFlow(u *core.User, login string, in core.ConnectInput) core.Credential {
	g.Helper()
	result, err := g.flow(u, login, in)
	if err != nil {
		g.Fatalf("connect %s: %v", login, err)
	}
	return result.Credential
}

// visit is what the page of the application gets at the end of a flow: its parameters.
func (g *gate) visit(session *core.ConnectSession, login string) url.Values {
	g.Helper()
	u, err := url.Parse(session.URL)
	if err != nil {
		g.Fatal(err)
	}
	page := u.Query().Get("redirect_uri")
	got, err := coretest.NewBrowser().OpenUntil(g.Context(), session.URL+"&login_hint="+url.QueryEscape(login), page)
	if err != nil {
		g.Fatal(err)
	}
	at, err := url.Parse(got.URL)
	if err != nil || !strings.HasPrefix(got.URL, page+"?") {
		g.Fatalf("the provider did not redirect to %s: %s", page, got.URL)
	}
	return at.Query()
}

// complete finishes a session at a page of the application, as a page that passes on nothing but the code.
func (g *gate) complete(u *core.User, code string) (*core.ConnectResult, error) {
	g.Helper()
	result, err := u.CompleteConnect(g.Context(), core.CompleteInput{Integration: calendar, Code: code, RedirectURL: appPage})
	return result, g.note(err)
}

// everyone lists all accounts of acme, of whatever integration.
func (g *gate) everyone() []core.Credential {
	g.Helper()
	page, err := g.acme("").Credentials(g.Context(), core.ListInput{Limit: 1000})
	if err != nil {
		g.Fatal(err)
	}
	return page.Credentials
}

// ignorePKCE makes the provider one that takes codes without looking at the verifier.
func ignorePKCE(sw *coretest.Switches) { sw.PKCE = coretest.PKCEIgnored }
