package crypto_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"text/template"

	"github.com/fxamacker/cbor/v2"
	"github.com/polycred/polycred/crypto"
)

const (
	canary      = "CANARY-7f3a-token"
	placeholder = "[secret]"
)

// leak returns the form in which the canary stands in out, or "".
func leak(out string) string {
	text := []byte(canary)
	decimals := strings.Trim(fmt.Sprint(text), "[]")
	for _, form := range []string{
		canary,
		canary[4:12], // a part is too much too
		hex.EncodeToString(text),
		fmt.Sprintf("% x", text),
		base64.RawStdEncoding.EncodeToString(text)[:20],
		base64.RawURLEncoding.EncodeToString(text)[:20],
		decimals,
		strings.ReplaceAll(decimals, " ", ","),
	} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
			return form
		}
	}
	return ""
}

// holder has a secret wherever a struct can have one.
type holder struct {
	Field   crypto.Secret
	Pointer *crypto.Secret
	List    []crypto.Secret
	Array   [2]crypto.Secret
	Map     map[string]crypto.Secret
	Any     any
	Inner   struct{ Secret crypto.Secret }

	field   crypto.Secret
	pointer *crypto.Secret
	list    []crypto.Secret
	array   [2]crypto.Secret
	byName  map[string]crypto.Secret
	any     any
	inner   struct{ secret crypto.Secret }
}

func newHolder() holder {
	s := crypto.NewSecret(canary)
	h := holder{
		Field: s, Pointer: &s, List: []crypto.Secret{s, s}, Array: [2]crypto.Secret{s, s},
		Map: map[string]crypto.Secret{"k": s}, Any: s,
		field: s, pointer: &s, list: []crypto.Secret{s, s}, array: [2]crypto.Secret{s, s},
		byName: map[string]crypto.Secret{"k": s}, any: &s,
	}
	h.Inner.Secret, h.inner.secret = s, s
	return h
}

// carriers are values that hold the canary.
func carriers() map[string]any {
	s, h := crypto.NewSecret(canary), newHolder()
	type key struct{ s crypto.Secret }
	misuse := "%w" // not a constant, so that vet lets it be misused
	return map[string]any{
		"secret":        s,
		"pointer":       &s,
		"holder":        h,
		"holderPointer": &h,
		"slice":         []crypto.Secret{s},
		"slicePointer":  &[]crypto.Secret{s},
		"pointers":      []*crypto.Secret{&s},
		"array":         [1]crypto.Secret{s},
		"map":           map[string]crypto.Secret{"k": s},
		"mapKey":        map[crypto.Secret]int{s: 1},
		"hiddenMapKey":  map[key]int{{s}: 1},
		"anys":          []any{s, &s, h, &h},
		"error":         fmt.Errorf("refresh %v %s %q %x: %w", s, s, s, s, errors.New("upstream")),
		"errorOfHolder": fmt.Errorf("refresh %+v %#v", h, &h),
		"join":          errors.Join(fmt.Errorf("a %v", h), fmt.Errorf("b %v", s)),
		"wrapMisuse":    fmt.Errorf(misuse, s),
		"reflected":     reflect.ValueOf(h),
	}
}

func TestSecretPrintsPlaceholder(t *testing.T) {
	t.Parallel()
	s := crypto.NewSecret(canary)
	for verb := range strings.SplitSeq("v s q x X d o b c t e f g U z !", " ") {
		for flags := range strings.SplitSeq("|+|#|-20|020|.3|+#| ", "|") {
			format := "%" + flags + verb
			for _, got := range []string{fmt.Sprintf(format, s), fmt.Sprintf(format, &s)} {
				if verb != "!" && got != placeholder {
					t.Errorf("Sprintf(%q, secret) = %q, want %q", format, got, placeholder)
				}
				if form := leak(got); form != "" {
					t.Errorf("Sprintf(%q, secret) = %q, which holds %q", format, got, form)
				}
			}
		}
	}
	for name, got := range map[string]string{
		"Sprint":         fmt.Sprint(s),
		"Sprintln":       strings.TrimSpace(fmt.Sprintln(s)),
		"String":         s.String(),
		"GoString":       s.GoString(),
		"LogValue":       s.LogValue().String(),
		"zero":           fmt.Sprint(crypto.Secret{}),
		"exported field": strings.Trim(fmt.Sprint(struct{ S crypto.Secret }{s}), "{}"),
	} {
		if got != placeholder {
			t.Errorf("%s = %q, want %q", name, got, placeholder)
		}
	}
}

func TestSecretNeverPrinted(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers() {
		for verb := range strings.SplitSeq("v +v #v s q x X # x d o b c t e f g U p T w z 3$v *v", " ") {
			for _, format := range []string{"%" + verb, "%[1]" + verb, "extra %" + verb + " %v", "no verb"} {
				got := fmt.Sprintf(format, carrier)
				got += fmt.Errorf(format, carrier).Error()
				if form := leak(got); form != "" {
					t.Errorf("Sprintf(%q, %s) = %q, which holds %q", format, name, got, form)
				}
			}
		}
		got := fmt.Sprint(carrier) + fmt.Sprintln(carrier, carrier)
		if form := leak(got); form != "" {
			t.Errorf("Sprint(%s) = %q, which holds %q", name, got, form)
		}
	}
}

func TestSecretNeverLogged(t *testing.T) {
	t.Parallel()
	for name, carrier := range carriers() {
		var out bytes.Buffer
		plain := log.New(&out, "", 0)
		plain.Print(carrier)
		plain.Printf("%+v %#v %s", carrier, carrier, carrier)
		options := &slog.HandlerOptions{Level: slog.LevelDebug}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, options), slog.NewJSONHandler(&out, options)} {
			logger := slog.New(handler).With("with", carrier).WithGroup("group")
			logger.Info("message", "value", carrier, slog.Group("inner", "value", carrier), slog.Any("any", []any{carrier}))
			logger.Debug("message", carrier, carrier)
		}
		if out.Len() == 0 {
			t.Fatalf("nothing was logged of %s: the test is blind", name)
		}
		if form := leak(out.String()); form != "" {
			t.Errorf("the log of %s holds %q:\n%s", name, form, out.String())
		}
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "token", crypto.NewSecret(canary))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "token", crypto.NewSecret(canary))
	if n := strings.Count(out.String(), placeholder); n != 2 {
		t.Errorf("the log of a secret holds the placeholder %d times, want 2:\n%s", n, out.String())
	}
}

func TestSecretNeverInOtherOutputs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	parsed := template.Must(template.New("t").Parse(`{{.Field}} {{.Pointer}} {{.Map}} {{printf "%s %d" .Field .Field}} {{.}}`))
	if err := parsed.Execute(&out, newHolder()); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { fmt.Fprint(&out, recover()) }()
		panic(fmt.Sprintf("%v", newHolder()))
	}()
	if form := leak(out.String()); form != "" {
		t.Errorf("template or panic holds %q:\n%s", form, out.String())
	}
}

// encoders are general encoders. None may write a secret, and none may pass over it without an error.
var encoders = map[string]func(io.Writer, any) error{
	"encoding/json": func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
	"json.MarshalIndent": func(w io.Writer, v any) error {
		text, err := json.MarshalIndent(v, "", " ")
		_, _ = w.Write(text)
		return err
	},
	"encoding/gob": func(w io.Writer, v any) error { return gob.NewEncoder(w).Encode(v) },
	"encoding/xml": func(w io.Writer, v any) error { return xml.NewEncoder(w).Encode(v) },
	"fxamacker/cbor": func(w io.Writer, v any) error {
		text, err := cbor.Marshal(v)
		_, _ = w.Write(text)
		return err
	},
	"fxamacker/cbor core deterministic": func(w io.Writer, v any) error {
		mode, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			return nil // the test then fails
		}
		return mode.NewEncoder(w).Encode(v)
	},
}

func TestSecretNotEncoded(t *testing.T) {
	t.Parallel()
	type attribute struct {
		S crypto.Secret `xml:"s,attr" json:"s,omitempty" cbor:"1,keyasint,omitempty"`
	}
	type text struct {
		S crypto.Secret `xml:",chardata"`
	}
	type embedded struct{ crypto.Secret }
	s := crypto.NewSecret(canary)
	values := map[string]any{
		"secret":    s,
		"pointer":   &s,
		"field":     struct{ S crypto.Secret }{s},
		"pointers":  struct{ S *crypto.Secret }{&s},
		"attribute": attribute{s},
		"text":      text{s},
		"embedded":  embedded{s},
		"slice":     []crypto.Secret{s},
		"list":      struct{ S []crypto.Secret }{[]crypto.Secret{s}},
		"map":       map[string]crypto.Secret{"k": s},
		"mapKey":    map[crypto.Secret]string{s: "v"},
		"any":       []any{"first", s},
		"deep":      map[string][]*attribute{"k": {{s}}},
	}
	for encoder, encode := range encoders {
		for name, value := range values {
			var out bytes.Buffer
			err := encode(&out, value)
			if err == nil {
				t.Errorf("%s of %s = %q without an error, want one", encoder, name, out.String())
			}
			if form := leak(out.String() + fmt.Sprint(err)); form != "" {
				t.Errorf("%s of %s = %q, %v, which holds %q", encoder, name, out.String(), err, form)
			}
		}
	}
	for _, encoder := range []string{"encoding/json", "encoding/xml", "fxamacker/cbor"} {
		if err := encoders[encoder](io.Discard, struct{ S crypto.Secret }{}); err == nil {
			t.Errorf("%s of an empty secret = nil, want an error: where one stands is not for general encoders", encoder)
		}
	}
	for name, marshal := range map[string]func() ([]byte, error){
		"MarshalText": s.MarshalText, "MarshalJSON": s.MarshalJSON, "MarshalBinary": s.MarshalBinary,
	} {
		if got, err := marshal(); got != nil || err == nil {
			t.Errorf("%s() = %q, %v, want nil and an error", name, got, err)
		}
	}
}

func TestSecretEqual(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		a, b crypto.Secret
		want bool
	}{
		{"same text", crypto.NewSecret(canary), crypto.NewSecret(canary), true},
		{"other text", crypto.NewSecret(canary), crypto.NewSecret(canary[1:] + "x"), false},
		{"prefix", crypto.NewSecret(canary), crypto.NewSecret(canary[:4]), false},
		{"empty and zero", crypto.NewSecret(""), crypto.Secret{}, true},
		{"zero and text", crypto.Secret{}, crypto.NewSecret(canary), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.a.Equal(test.b); got != test.want {
				t.Errorf("Equal() = %v, want %v", got, test.want)
			}
			if got := test.b.Equal(test.a); got != test.want {
				t.Errorf("Equal() the other way = %v, want %v", got, test.want)
			}
		})
	}
}

func TestSecretText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", canary, "\x00\xff not UTF-8"} {
		s := crypto.NewSecret(text)
		if got := s.Reveal(); got != text {
			t.Errorf("NewSecret(%q).Reveal() = %q, want %q", text, got, text)
		}
		if got, want := s.IsZero(), text == ""; got != want {
			t.Errorf("NewSecret(%q).IsZero() = %v, want %v", text, got, want)
		}
		var read crypto.Secret
		if err := read.UnmarshalText([]byte(text)); err != nil || !read.Equal(s) {
			t.Errorf("UnmarshalText(%q) = %q, %v, want %q, nil", text, read.Reveal(), err, text)
		}
	}
	if got := (crypto.Secret{}).Reveal(); got != "" {
		t.Errorf("Secret{}.Reveal() = %q, want \"\"", got)
	}
	if !(crypto.Secret{}).IsZero() {
		t.Error("Secret{}.IsZero() = false, want true")
	}
}

func TestSecretFromDocument(t *testing.T) {
	t.Parallel()
	var config struct {
		Secret crypto.Secret
		List   []crypto.Secret
	}
	if err := json.Unmarshal([]byte(`{"Secret":"`+canary+`","List":["a","b"]}`), &config); err != nil {
		t.Fatal(err)
	}
	if got := config.Secret.Reveal(); got != canary {
		t.Errorf("secret of the document = %q, want %q", got, canary)
	}
	if len(config.List) != 2 || config.List[1].Reveal() != "b" {
		t.Errorf("list of the document has %d secrets, want a and b", len(config.List))
	}
	for _, text := range []string{`{"Secret":"` + canary, `{"Secret":["` + canary + `"]}`, `{"Secret":{"x":"` + canary + `"}}`} {
		err := json.Unmarshal([]byte(text), &config)
		if err == nil || leak(err.Error()) != "" {
			t.Errorf("Unmarshal(%s) = %v, want an error without the secret", text, err)
		}
	}
	// A decoded secret shares no memory with what it was decoded from.
	buffer := []byte(canary)
	var read crypto.Secret
	if err := read.UnmarshalText(buffer); err != nil {
		t.Fatal(err)
	}
	buffer[0] = 'x'
	if got := read.Reveal(); got != canary {
		t.Errorf("secret after its buffer changed = %q, want %q", got, canary)
	}
}
