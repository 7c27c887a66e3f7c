// Package daemon makes a running VTEP out of a configuration: it starts what is
// asked for, answers the API, applies a changed configuration, and takes
// everything down again.
package daemon

import (
	"log/slog"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/observe"
	"github.com/uvtep/uvtep/internal/tap"
	"github.com/uvtep/uvtep/internal/underlay"
)

// Options say what Run runs. One of ConfigPath and Config must be set.
type Options struct {
	ConfigPath string         // file that is read now and at each reload
	Config     *config.Config // instead of a file
	Socket     string         // control socket; "" = the configuration's
	// SocketIfTaken is the control socket where another daemon answers on the
	// default one; "" = that is an error.
	SocketIfTaken string
	// MoveDamaged moves a lease store that cannot be read aside, and reservations
	// likewise, and begins without; else that is an error.
	MoveDamaged bool
	Logger      *slog.Logger // nil = silence
	Build       observe.Build

	// OpenTAP and OpenUnderlay reach the operating system; nil means the real
	// one.
	OpenTAP      tap.Opener
	OpenUnderlay underlay.Opener
}

// ConfigError is a configuration that cannot be used. It wraps config.Faults, or
// says why the file could not be read.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// Validate checks a configuration file without using it.
func Validate(path string) error {
	_, err := Options{ConfigPath: path}.load()
	return err
}

func (o Options) load() (*config.Config, error) {
	if o.ConfigPath == "" {
		return o.Config, nil
	}
	c, err := config.Load(o.ConfigPath)
	if err != nil {
		return nil, &ConfigError{err}
	}
	return c, nil
}

// tapOpener opens TAPs, and tells early what rights are missing for it.
func (o Options) tapOpener() tap.Opener {
	if o.OpenTAP != nil {
		return o.OpenTAP
	}
	return func(c tap.Config) (tap.Device, error) {
		if err := checkPlace(c); err != nil {
			return nil, err
		}
		return tap.Open(c)
	}
}

// underlayOpener adds what a VTEP leaves to the underlay's defaults.
func (o Options) underlayOpener(p config.SourcePorts) underlay.Opener {
	open := o.OpenUnderlay
	if open == nil {
		open = underlay.Open
	}
	return func(c underlay.Config) (underlay.Endpoint, error) {
		c.Sources, c.SourceLow, c.SourceHigh = p.Count, p.Low, p.High
		return open(c)
	}
}
