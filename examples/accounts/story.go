package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/polycred/polycred/core"
)

// story prints what happens, and remembers the first thing that should not have.
type story struct {
	out     io.Writer
	rule    string            // that is being shown
	labels  map[string]string // of ids, in the order in which they are first told
	failure error
}

// play is the story.
func (d *demo) play(ctx context.Context) error {
	d.say("An encrypted store in a temporary directory, and a demo provider on loopback. The connected user is the company")
	d.say("acme; ada and bob work there. <A>, <B> and so on stand for ids. Behind -> stands what happened.")
	if err := d.open(ctx); err != nil {
		return err
	}
	for _, chapter := range []func(context.Context){
		d.settings, d.refuse, d.add, d.into, d.sameAccount, d.externalIDs, d.selectors, d.noSilentChoice, d.disconnect,
		d.authority, d.pending, d.attribution, d.events,
	} {
		chapter(ctx)
		if d.failure != nil {
			return d.failure
		}
	}
	d.say("\nEvery rule held.")
	return nil
}

// chapter begins the steps that show a rule.
func (s *story) chapter(rule, text string) {
	s.rule = rule
	s.say("\n%s. %s", strings.ToUpper(rule[:1])+rule[1:], text)
}

// happened tells of a step that has to succeed.
func (s *story) happened(tried string, err error, what string, args ...any) {
	if err != nil {
		s.fail("%s: %w", tried, err)
		return
	}
	s.step(tried, fmt.Sprintf(what, args...))
}

// refused tells of a step that has to end with an error, in the words for the person who tried; it keeps to the first
// sentence, what happened. The second one says what to do.
func (s *story) refused(tried string, err, want error) {
	if !errors.Is(err, want) {
		s.fail("%s: error %v, want %q", tried, err, want)
		return
	}
	what, _, _ := strings.Cut(core.Message(err), ". ")
	s.step(tried, "refused: "+what+".")
}

// malformed tells of a step that has to be refused with the words for who fills in a form: which field, and why.
func (s *story) malformed(tried string, err error) {
	var input *core.InputError
	if !errors.As(err, &input) {
		s.fail("%s: error %v, want an InputError", tried, err)
		return
	}
	s.step(tried, "refused: "+input.Field+" "+input.Reason)
}

// check sees to it that what was told is true.
func (s *story) check(ok bool, format string, args ...any) {
	if !ok {
		s.fail(format, args...)
	}
}

func (s *story) fail(format string, args ...any) {
	if s.failure == nil {
		s.failure = fmt.Errorf("%s does not hold: %w", s.rule, fmt.Errorf(format, args...))
	}
}

func (s *story) step(tried, happened string) { s.say("  %-56s -> %s", s.short(tried), happened) }

func (s *story) say(format string, args ...any) {
	_, _ = fmt.Fprintln(s.out, strings.TrimRight(s.short(fmt.Sprintf(format, args...)), " "))
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// short puts labels in the place of ids.
func (s *story) short(text string) string {
	return uuid.ReplaceAllStringFunc(text, func(id string) string {
		if s.labels[id] == "" {
			s.labels[id] = fmt.Sprintf("<%c>", 'A'+len(s.labels))
		}
		return s.labels[id]
	})
}
