//go:build !linux

package pgtest

func scratch() string { return "" }
