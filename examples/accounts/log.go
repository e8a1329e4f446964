package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/polycred/polycred/core"
)

// actor is who did it, in a word.
func actor(ev core.Event) string {
	if ev.Actor.Type == core.ActorUser {
		return cmp.Or(ev.Actor.Person, ev.User)
	}
	return string(ev.Actor.Type)
}

// told is the rest of an event on a line: what stands in every one of this story, such as the time, is left out. A program
// that logs events has Event.String.
func told(ev core.Event) string {
	words := []string{ev.Integration}
	if ev.Credential != "" {
		words = append(words, ev.Credential)
	}
	if ev.Configuration != "" && ev.Configuration != ev.Credential {
		words = append(words, ev.Configuration)
	}
	words = append(words, ev.Cause)
	if ev.Result != "ok" {
		words = append(words, "result="+ev.Result)
	}
	for _, name := range slices.Sorted(maps.Keys(ev.Details)) {
		if name != "session" && name != "first" && name != "last" {
			words = append(words, name+"="+ev.Details[name])
		}
	}
	return strings.Join(words, " ")
}
