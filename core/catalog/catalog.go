package catalog

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed data/*.json
var files embed.FS

// Lookup returns the entry of that name. What it returns is a copy.
func Lookup(name string) (Provider, bool) {
	p, ok := entries()[name]
	return p.clone(), ok
}

// Names returns the names of all entries, sorted.
func Names() []string { return slices.Sorted(maps.Keys(entries())) }

// entries reads the files once. They are part of the program: one that is malformed is a mistake of who built it.
var entries = sync.OnceValue(func() map[string]Provider {
	list, err := files.ReadDir("data")
	if err != nil {
		panic(fmt.Sprintf("catalog: %v", err))
	}
	all := make(map[string]Provider, len(list))
	for _, file := range list {
		raw, err := files.ReadFile(path.Join("data", file.Name()))
		if err != nil {
			panic(fmt.Sprintf("catalog: %v", err))
		}
		p, err := parse(strings.TrimSuffix(file.Name(), ".json"), raw)
		if err != nil {
			panic(fmt.Sprintf("catalog: %v", err))
		}
		all[p.Name] = p
	}
	return all
})

// parse reads the entry of a name and checks it.
func parse(name string, raw []byte) (Provider, error) {
	var p Provider
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return p, fmt.Errorf("%s: something follows the object", name)
	}
	if p.Name != name {
		return p, fmt.Errorf("%s: it calls itself %q", name, p.Name)
	}
	var document map[string]any
	if err := json.Unmarshal(raw, &document); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	if err := p.check(document); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// clone copies everything that a caller could change.
func (p Provider) clone() Provider {
	p.Notes, p.Scopes, p.AllowedHosts = slices.Clone(p.Notes), slices.Clone(p.Scopes), slices.Clone(p.AllowedHosts)
	p.AuthorizationParams, p.AddAccountParams = maps.Clone(p.AuthorizationParams), maps.Clone(p.AddAccountParams)
	p.TokenParams, p.Variables = maps.Clone(p.TokenParams), maps.Clone(p.Variables)
	p.SentHosts = slices.Clone(p.SentHosts)
	for i := range p.SentHosts {
		p.SentHosts[i].Hosts = slices.Clone(p.SentHosts[i].Hosts)
	}
	p.Errors.Permanent, p.Errors.Transient = slices.Clone(p.Errors.Permanent), slices.Clone(p.Errors.Transient)
	p.Errors.RateLimited = slices.Clone(p.Errors.RateLimited)
	p.Deprecations, p.Unverified = slices.Clone(p.Deprecations), slices.Clone(p.Unverified)
	return p
}
