package main

import (
	"encoding"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/core/coretest"
)

// docs/integration.md names every field that the file can have, and no other.
func TestDocumentedFields(t *testing.T) {
	t.Parallel()
	text := readDoc(t)
	var have []string
	fieldsOf("", reflect.TypeFor[config](), &have)
	have = slices.DeleteFunc(have, func(path string) bool { return strings.HasPrefix(path, "integrations.") })
	fieldsOf("", reflect.TypeFor[core.Integration](), &have)
	have = slices.DeleteFunc(have, func(path string) bool { return strings.HasPrefix(path, "setup.*.") }) // the same as settings
	var named []string
	for _, found := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		named = append(named, found[1])
	}
	for _, path := range have {
		if !slices.Contains(named, path) {
			t.Errorf("docs/integration.md does not name %s", path)
		}
	}
	for _, path := range named {
		if !slices.Contains(have, path) {
			t.Errorf("docs/integration.md names %s, which there is not", path)
		}
	}
}

func fieldsOf(at string, of reflect.Type, all *[]string) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return
	}
	switch of.Kind() {
	case reflect.Slice, reflect.Map:
		fieldsOf(at+".*", of.Elem(), all)
	case reflect.Struct:
		for field := range of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if _, ok := fieldOf(of, name); !ok {
				continue
			}
			path := strings.TrimPrefix(at+"."+name, ".")
			*all = append(*all, path)
			fieldsOf(path, field.Type, all)
		}
	}
}

// The examples of docs/integration.md are read, and declared, as they stand there.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(readDoc(t), -1)
	if len(blocks) < 4 {
		t.Fatalf("docs/integration.md has %d examples, want several", len(blocks))
	}
	for _, block := range blocks {
		text := block[1]
		if !strings.Contains(text, `"integrations"`) {
			text = `{"integrations": [` + text + `]}`
		}
		cfg, err := parseConfig([]byte(text))
		if err != nil {
			t.Errorf("%v in\n%s", err, block[1])
			continue
		}
		engine := coretest.NewEngine(t, &core.Options{PrivateHosts: cfg.PrivateHosts})
		if err := declare(t.Context(), engine, cfg, &secretFile{secrets: map[string]string{}}); err != nil {
			t.Errorf("%v in\n%s", err, block[1])
		}
		for _, in := range cfg.Integrations {
			stored, err := engine.Integration(t.Context(), in.Name)
			if err != nil {
				t.Error(err)
			}
			if same, err := equal(in, stored); !same || err != nil {
				text, _ := json.Marshal(stored)
				t.Errorf("%s is stored in another form, and would be changed by each start: %s", in.Name, text)
			}
		}
	}
}

func readDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/integration.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
