package need

// SetEUID makes Root believe that the process runs as id. It is not undone.
func SetEUID(id int) { euid = func() int { return id } }
