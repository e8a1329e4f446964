package httpapi

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/polycred/polycred/core"
	"github.com/polycred/polycred/crypto"
	"github.com/polycred/polycred/storage/memory"
)

// docs/http-api.md lists every route, and none that there is not.
func TestDocumentedRoutes(t *testing.T) {
	t.Parallel()
	kek, err := crypto.NewKEK()
	if err != nil {
		t.Fatal(err)
	}
	engine, err := core.Open(context.Background(), memory.New(), crypto.KEKs{Tokens: kek, Policy: kek}, &core.Options{CallbackURL: "http://localhost/callback"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	handler, err := New(engine, &Options{PublicURL: "http://localhost"})
	if err != nil {
		t.Fatal(err)
	}
	served := []string{"ANY " + strings.ReplaceAll(proxyRoute, "/projects/{project}/sdk", "P")}
	for pattern := range handler.(*api).isPage {
		served = append(served, strings.ReplaceAll(pattern, "/projects/{project}/sdk", "P"))
	}
	slices.Sort(served)

	section := sectionOf(t, "Routes")
	var documented []string
	for _, found := range regexp.MustCompile("`((?:GET|POST|PATCH|DELETE|ANY) [^`]+)`").FindAllStringSubmatch(section, -1) {
		documented = append(documented, found[1])
	}
	slices.Sort(documented)
	for _, route := range served {
		if !slices.Contains(documented, route) {
			t.Errorf("docs/http-api.md does not list %s", route)
		}
	}
	for _, route := range documented {
		if !slices.Contains(served, route) {
			t.Errorf("docs/http-api.md lists %s, which is not served", route)
		}
	}
}

// docs/http-api.md lists every code under its status.
func TestDocumentedCodes(t *testing.T) {
	t.Parallel()
	section := sectionOf(t, "Errors")
	for code, status := range statuses {
		if code == "permission" {
			code = codePermission
		}
		row := regexp.MustCompile("(?m)^\\| " + strconv.Itoa(status) + " \\|.*`" + code + "`")
		if !row.MatchString(section) {
			t.Errorf("docs/http-api.md does not list %s under %d", code, status)
		}
	}
}

func sectionOf(t *testing.T, title string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, behind, _ := strings.Cut(string(text), "\n## "+title+"\n")
	section, _, _ := strings.Cut(behind, "\n## ")
	return section
}
