package core

import (
	"cmp"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Unselected says what happens when a call that uses an account names none and several are VALID (rule 7; see Selector).
type Unselected string

// The choices; empty means Refuse.
const (
	Refuse Unselected = "refuse" // ErrAmbiguous
	Oldest Unselected = "oldest" // the one that was connected first; for hosts that move from elsewhere
)

// Options of an Engine. The zero value opens an engine that can do everything but connect over OAuth, which needs
// CallbackURL.
type Options struct {
	// Project is the UUID of the project to open, which is made when the store does not have it; empty means the store's
	// only project, which is made when the store has none.
	Project string

	// CallbackURL is where providers send the browser back to: the redirect URI of an integration is CallbackURL, "/" and
	// the integration's name, and has to be registered there. https, or http on localhost or 127.0.0.1. It is never taken
	// from a request. Empty means that no OAuth flow can begin.
	CallbackURL string
	// ReturnURLs are the URLs that ConnectInput.ReturnURL may be, compared exactly. Empty means none.
	ReturnURLs []string
	// RedirectURLs are the URLs that ConnectInput.RedirectURL may be, compared exactly. Empty means none.
	RedirectURLs []string
	// OpenSessions is how many connect sessions of one user may wait for an answer at a time, 1,000 at most; 0 means 100. A
	// few more may, where they begin at once.
	OpenSessions int
	// ConnectTTL is how long a person may take to connect; 0 means 15 minutes.
	ConnectTTL time.Duration

	// Unselected is the choice when a call that uses an account names none; empty means Refuse. Calls that manage accounts
	// never choose.
	Unselected Unselected

	// PrivateHosts are the exact "host:port" ("127.0.0.1:9000") that outbound requests may reach although they are private
	// or loopback, and that may be asked over plain http. Which hosts an account's requests may go to is another list,
	// Integration.AllowedHosts. Empty means none.
	PrivateHosts []string
	// EnvironmentProxy sends outbound requests through the proxy that HTTPS_PROXY and its kin name; names are then
	// resolved by that proxy, which has to keep private addresses away itself. False means no proxy.
	EnvironmentProxy bool
	// ProviderTimeout bounds one call to a provider; 0 means 15 seconds, 10 minutes is the most.
	ProviderTimeout time.Duration

	// EventRetention is how long events are kept; 0 means 30 days, one minute is the least.
	EventRetention time.Duration
	// LeaseTTL is how long a process that died keeps work from being taken over by another; 0 means 30 seconds. Stores that
	// are open in one process at a time do not wait.
	LeaseTTL time.Duration

	// TokenLifetime is the longest that a user token may live, from when it was signed to when it expires; 0 means 24 hours,
	// 30 days is the most. Longer ones are refused (Engine.Authenticate).
	TokenLifetime time.Duration

	// OutageTTL is for stores that can be out of reach, such as PostgreSQL: how long an account that this process has just
	// used goes on being used while the store cannot be read, from when it was read last. Only its token is, as long as that
	// is good, and only through handles of Engine.User; nothing is refreshed. In that time what other processes change goes
	// unnoticed here: that an account was disconnected, or somebody disabled. 0 means 5 seconds, which that may take
	// anyway; an hour is the most, and less than 0 means not at all. Up to 10,000 selectors are remembered at least.
	OutageTTL time.Duration

	// RefreshLimit is how many refreshes ahead of expiry Run has under way at a time, for each integration in this process;
	// 0 means 8, 1,000 is the most. Refreshes that a caller waits for are not counted.
	RefreshLimit int

	// TakeOver confirms that this store is the one to go on with, after it was restored, copied or moved to another
	// disk or machine, and that no other copy is in use. Set it for one start: left on, it lifts every later quarantine
	// unseen. False means that such a store is quarantined: valid tokens are given out, and nothing is refreshed, revoked
	// or carried on.
	TakeOver bool

	// Now is the clock; nil means time.Now. It is called concurrently.
	Now func() time.Time
	// Logger receives what an operator should know, never a secret; nil means slog.Default.
	Logger *slog.Logger
	// MeterProvider and TracerProvider receive metrics and traces, which docs/telemetry.md lists, never a secret; nil means
	// the global ones of OpenTelemetry, which may be set later.
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider

	boot string // tests alone set it, to have several runs of the program in one process; empty means this one
}

// prepare returns a copy with defaults filled in, or an InputError.
func (o *Options) prepare() (Options, error) {
	p := Options{}
	if o != nil {
		p = *o
	}
	p.ReturnURLs = slices.Clone(p.ReturnURLs)
	p.RedirectURLs = slices.Clone(p.RedirectURLs)
	p.PrivateHosts = slices.Clone(p.PrivateHosts)
	p.ConnectTTL = cmp.Or(p.ConnectTTL, 15*time.Minute)
	p.ProviderTimeout = cmp.Or(p.ProviderTimeout, 15*time.Second)
	p.EventRetention = cmp.Or(p.EventRetention, 30*24*time.Hour)
	p.LeaseTTL = cmp.Or(p.LeaseTTL, 30*time.Second)
	p.TokenLifetime = cmp.Or(p.TokenLifetime, 24*time.Hour)
	p.OpenSessions = cmp.Or(p.OpenSessions, 100)
	p.OutageTTL = cmp.Or(p.OutageTTL, cacheTTL)
	p.RefreshLimit = cmp.Or(p.RefreshLimit, 8)
	p.Unselected = cmp.Or(p.Unselected, Refuse)
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Logger == nil {
		p.Logger = slog.Default()
	}

	if _, ok := canonicalUUID(p.Project); p.Project != "" && !ok {
		return p, invalid("project", "is not a UUID: leave it empty for the store's only project")
	}
	if p.CallbackURL != "" {
		u, err := url.Parse(p.CallbackURL)
		switch {
		case err != nil || u.Host == "" && u.Scheme != "https" && u.Scheme != "http":
			return p, invalid("callbackUrl", `has no scheme: write "https://" before it, or "http://" for localhost`)
		case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return p, invalid("callbackUrl", "must be a plain URL without user, query and fragment")
		case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
			return p, invalid("callbackUrl", "must be https, or http on localhost or 127.0.0.1: browsers keep no secrets on any other http page")
		}
		p.CallbackURL = strings.TrimRight(p.CallbackURL, "/")
	}
	for _, raw := range p.ReturnURLs {
		if u, err := url.Parse(raw); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return p, invalid("returnUrls", "must be whole http or https URLs")
		}
	}
	for _, raw := range p.RedirectURLs {
		u, err := url.Parse(raw)
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
			return p, invalid("redirectUrls", "must be whole URLs without user and fragment (RFC 6749 §3.1.2)")
		case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
			return p, invalid("redirectUrls", "must be https, or http on localhost or 127.0.0.1")
		}
	}
	if p.EventRetention < time.Minute {
		return p, invalid("eventRetention", "must be at least one minute, or 0 for 30 days")
	}
	if p.LeaseTTL < time.Second || p.LeaseTTL > time.Hour {
		return p, invalid("leaseTtl", "must be between a second and an hour, or 0 for 30 seconds")
	}
	if p.TokenLifetime < time.Minute || p.TokenLifetime > 30*24*time.Hour {
		return p, invalid("tokenLifetime", "must be between a minute and 30 days, or 0 for 24 hours")
	}
	if p.OpenSessions < 1 || p.OpenSessions > 1000 {
		return p, invalid("openSessions", "must be between 1 and 1000, or 0 for 100")
	}
	if p.OutageTTL > time.Hour {
		return p, invalid("outageTtl", "must be at most an hour, or 0 for 5 seconds")
	}
	if p.RefreshLimit < 1 || p.RefreshLimit > 1000 {
		return p, invalid("refreshLimit", "must be between 1 and 1000, or 0 for 8")
	}
	if p.ConnectTTL < 0 || p.ConnectTTL > 24*time.Hour {
		return p, invalid("connectTtl", "must be between 0 and 24 hours")
	}
	if p.ProviderTimeout < 0 || p.ProviderTimeout > 10*time.Minute {
		return p, invalid("providerTimeout", "must be between 0 and 10 minutes")
	}
	if p.Unselected != Refuse && p.Unselected != Oldest {
		return p, invalid("unselected", `must be "refuse" or "oldest"`)
	}
	return p, nil
}

// loopback reports whether a browser treats plain http on this host as secure.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
