// Package catalog holds facts about OAuth providers: where their endpoints are, how accounts are recognised, how long
// tokens live, what their own error codes mean. core.Integration.Provider names an entry; a field that an integration
// gives itself wins over the entry's.
//
// Each provider is one file under data, checked strictly when it is first needed. What is not certain is marked twice:
// [Provider.Verified] is empty until the provider's own pages were read for the entry, and [Provider.Unverified] names
// the fields that rest on general knowledge. Facts change with the version of this module; an integration that must not
// follow gives the field itself.
//
// Names of entries are for ever: stored integrations refer to them. All functions may be called concurrently.
package catalog
