package main

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/polycred/polycred/core"
)

// config is the file. What it says of integrations, keys and origins is what holds after every start: keys that it does not
// list are revoked. Integrations that it does not list stay, because accounts may hang on them.
type config struct {
	// Project is a UUID; empty means the store's only project.
	Project string `json:"project"`
	// PublicURL is where browsers reach this program, "https://zeus.localhost:8443". Port 0 stands for the port that is
	// served. Empty means the http address.
	PublicURL string `json:"publicUrl"`
	// Application is what people know the application as.
	Application string `json:"application"`
	// SigningKeys are public keys in PEM, under which the application signs user tokens.
	SigningKeys []string `json:"signingKeys"`
	// AllowedOrigins are those of the application's pages.
	AllowedOrigins []string `json:"allowedOrigins"`
	// RedirectURLs are the pages of the application that a provider may send people to, for completeInstall.
	RedirectURLs []string `json:"redirectUrls"`
	// LegacyNavigation serves SDKs before 2.2.3.
	LegacyNavigation bool `json:"legacyNavigation"`
	// Unselected is "refuse" or "oldest": what happens to a call that names no account where there are several.
	Unselected core.Unselected `json:"unselected"`
	// ClientAddressHeader is the header in which a reverse proxy before this program says from which address a request came,
	// "X-Real-Ip". Name one only where every request comes through that proxy, which sets it itself. Empty means none.
	ClientAddressHeader string `json:"clientAddressHeader"`
	// PrivateHosts are "host:port" on this machine or network that providers may have.
	PrivateHosts []string `json:"privateHosts"`
	// Integrations are documented in docs/integration.md.
	Integrations []core.Integration `json:"integrations"`
}

// loadConfig reads the file. Errors name the place in it.
func loadConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read -config: %w", err)
	}
	cfg, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

func parseConfig(text []byte) (*config, error) {
	var tree any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err := d.Decode(&tree)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = fmt.Errorf("line %d: there is something behind the object", lineOf(text, d.InputOffset()))
		}
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		err = fmt.Errorf("line %d: %w", lineOf(text, syntax.Offset), err)
	}
	if err != nil {
		return nil, err
	}
	if at := unknownField("", tree, reflect.TypeFor[config]()); at != "" {
		return nil, fmt.Errorf("%s: there is no such field", at)
	}
	cfg := &config{}
	if err := json.Unmarshal(text, cfg); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, fmt.Errorf("line %d: %s: is a %s", lineOf(text, wrong.Offset), wrong.Field, wrong.Value)
		}
		return nil, err
	}
	names := map[string]bool{}
	for i := range cfg.Integrations {
		name := cfg.Integrations[i].Name
		if name == "" || names[name] {
			return nil, fmt.Errorf("integrations.%d.name: is empty, or that of another integration", i)
		}
		names[name] = true
	}
	return cfg, nil
}

func lineOf(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(int(offset), len(text))], []byte("\n"))
}

// unknownField returns where in a tree, as json.Unmarshal makes it, stands a name that the type has no field for; empty means
// nowhere. Json.Decoder knows it too, but not where.
func unknownField(at string, tree any, t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return ""
	}
	below := func(name string) string { return strings.TrimPrefix(at+"."+name, ".") }
	switch tree := tree.(type) {
	case []any:
		for i, element := range tree {
			if t.Kind() != reflect.Slice {
				break
			}
			if found := unknownField(below(fmt.Sprint(i)), element, t.Elem()); found != "" {
				return found
			}
		}
	case map[string]any:
		for _, name := range sorted(tree) {
			var inner reflect.Type
			switch t.Kind() {
			case reflect.Map:
				inner = t.Elem()
			case reflect.Struct:
				field, ok := fieldOf(t, name)
				if !ok {
					return below(name)
				}
				inner = field
			default:
				return ""
			}
			if found := unknownField(below(name), tree[name], inner); found != "" {
				return found
			}
		}
	}
	return ""
}

func sorted(tree map[string]any) []string {
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// setHere are fields of an integration that polycred sets itself.
var setHere = []string{"dateCreated", "dateUpdated", "revision"}

func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	if slices.Contains(setHere, name) {
		return nil, false
	}
	for field := range t.Fields() {
		if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag == name {
			return field.Type, true
		}
	}
	return nil, false
}

// publicURL is the configured one, with the ports that are served.
func (c *config) publicURL(httpAddr, tlsAddr string) (string, error) {
	if c.PublicURL == "" {
		if httpAddr == "" {
			return "", errors.New("publicUrl: is missing, and without -http there is no address to go by")
		}
		return "http://" + httpAddr, nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return "", errors.New("publicUrl: is no URL")
	}
	if u.Port() == "0" {
		served := httpAddr
		if u.Scheme == "https" {
			served = tlsAddr
		}
		_, port, err := net.SplitHostPort(served)
		if err != nil {
			return "", fmt.Errorf("publicUrl: has port 0, and no port is served for %s", u.Scheme)
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u.String(), nil
}

// beside is a file next to a directory, never in it: who gets a copy of the store must not get its key with it.
func beside(dir, suffix string) string { return filepath.Clean(dir) + suffix }

func (c *config) projectOr(project string) string { return cmp.Or(c.Project, project) }
