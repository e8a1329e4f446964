package catalog

// Parse is how the files are read.
var Parse = parse
