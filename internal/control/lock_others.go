//go:build !unix

package control

// lockDir does nothing where directories cannot be locked.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }
