package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/uvtep/uvtep/internal/config"
	"github.com/uvtep/uvtep/internal/observe"
)

const repository = "../.."

// document is a Markdown file of the repository.
type document struct {
	path   string // below the repository
	blocks []block
	spans  []string // inline code
	links  []string // where they lead
	slugs  []string // of headings: what links name behind a #
}

// block is fenced code, its language, and the heading that it stands under.
type block struct{ heading, language, text string }

var (
	fence   = regexp.MustCompile("^```(.*)$")
	heading = regexp.MustCompile(`^#+ (.*)$`)
	span    = regexp.MustCompile("`([^`]+)`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func parseDocument(path, text string) document {
	d := document{path: path}
	var b *block
	var under string
	var prose strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := fence.FindStringSubmatch(line); m != nil {
			if b == nil {
				b = &block{heading: under, language: m[1]}
				continue
			}
			d.blocks = append(d.blocks, *b)
			b = nil
			continue
		}
		if b != nil {
			b.text += line + "\n"
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			under = m[1]
			d.slugs = append(d.slugs, slug(under))
		}
		prose.WriteString(line + "\n")
	}
	for _, m := range span.FindAllStringSubmatch(prose.String(), -1) {
		d.spans = append(d.spans, strings.Join(strings.Fields(m[1]), " "))
	}
	for _, m := range link.FindAllStringSubmatch(prose.String(), -1) {
		d.links = append(d.links, m[1])
	}
	return d
}

// slug is how Markdown renderers name a heading in a link.
func slug(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, s)
}

// documents are all there are: in the repository's root and in docs.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := fs.Glob(os.DirFS(repository), pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(repository, f))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, parseDocument(f, string(text)))
		}
	}
	return all
}

// shell is what of a document a user may type into a shell: command lines.
func (d document) shell() (lines []string) {
	for _, b := range d.blocks {
		lines = append(lines, strings.Split(b.text, "\n")...)
	}
	return append(lines, d.spans...)
}

// commands are the command lines of uvtep in a line of shell. The word before it
// is one that runs another, as in "ip netns exec h1 uvtep …", or there is none.
func commands(line string) (all [][]string) {
	words := strings.Fields(line)
	for i, w := range words {
		w = strings.TrimPrefix(w, "bin/")
		begins := i == 0 || slices.Contains([]string{"sudo", "--", "&&", ";", "|"}, words[i-1]) || i >= 3 && words[i-2] == "exec"
		if w != "uvtep" || !begins {
			continue
		}
		rest := words[i+1:]
		if end := slices.IndexFunc(rest, func(w string) bool { return strings.ContainsAny(w, "&|;#>") }); end >= 0 {
			rest = rest[:end]
		}
		all = append(all, rest)
	}
	return all
}

// wrong says what of a command line of uvtep there is not; "" if all is there.
// Values are not looked at: they may stand for others.
func wrong(words []string) string {
	c := newRoot(observe.Build{})
	for len(words) > 0 && c.HasSubCommands() && !strings.HasPrefix(words[0], "-") {
		i := slices.IndexFunc(c.Commands(), func(s *cobra.Command) bool { return s.Name() == words[0] })
		if i < 0 {
			return c.CommandPath() + " has no command " + words[0]
		}
		c, words = c.Commands()[i], words[1:]
	}
	c.InitDefaultHelpFlag()
	c.InheritedFlags() // makes the parents' flags known to c.Flags
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		switch {
		case w == "--":
			return ""
		case strings.HasPrefix(w, "--") && c.Flags().Lookup(name[2:]) == nil,
			len(w) == 2 && w[0] == '-' && c.Flags().ShorthandLookup(w[1:]) == nil:
			return c.CommandPath() + " has no flag " + w
		}
	}
	return ""
}

func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	found := 0
	for _, d := range documents(t) {
		for _, line := range d.shell() {
			for _, words := range commands(line) {
				found++
				if w := wrong(words); w != "" {
					t.Errorf("%s: %q: %s", d.path, line, w)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d commands were found", found)
	}
}

func TestACommandThatThereIsNotIsFound(t *testing.T) {
	for line, want := range map[string]string{
		"uvtep":                                  "",
		"uvtep show fdb -j --vni 100":            "",
		"ip netns exec h1 uvtep up --vni 100 &":  "",
		"sudo bin/uvtep lab up --hosts=3":        "",
		"uvtep lab exec g1-v100 -- ping -c 3 x":  "",
		"uvtep show fdb --socket /x | grep -q y": "",
		"uvtep run -c FILE":                      "",
		"uvtep up --help":                        "",
		"uvtep fly":                              "uvtep has no command fly",
		"sleep 1; true && uvtep show fbd":        "uvtep show has no command fbd",
		"uvtep show fdb --vnis 100":              "uvtep show fdb has no flag --vnis",
		"uvtep peer add -x":                      "uvtep peer add has no flag -x",
	} {
		all := commands(line)
		if len(all) != 1 {
			t.Errorf("%q: %d commands", line, len(all))
			continue
		}
		if got := wrong(all[0]); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if all := commands("the uvtep binary, /run/uvtep/uvtep.sock"); len(all) != 0 {
		t.Errorf("%q were found where there are none", all)
	}
}

func TestEveryLinkOfTheDocumentsLeadsSomewhere(t *testing.T) {
	all := documents(t)
	found := 0
	for _, d := range all {
		for _, l := range d.links {
			if strings.Contains(l, "://") {
				continue
			}
			found++
			file, anchor, _ := strings.Cut(l, "#")
			to := d.path
			if file != "" {
				to = filepath.Join(filepath.Dir(d.path), file)
			}
			if _, err := os.Stat(filepath.Join(repository, to)); err != nil {
				t.Errorf("%s: %s leads nowhere: %v", d.path, l, err)
				continue
			}
			i := slices.IndexFunc(all, func(o document) bool { return o.path == to })
			if anchor != "" && (i < 0 || !slices.Contains(all[i].slugs, anchor)) {
				t.Errorf("%s: %s: there is no such heading", d.path, l)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d links were found", found)
	}
}

func TestEveryConfigurationInTheDocumentsIsValid(t *testing.T) {
	found := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language != "yaml" {
				continue
			}
			found++
			text := b.text
			if !strings.Contains(text, "underlay:") {
				text = "underlay: {local: 10.9.0.1}\n" + text // left out where it is not the subject
			}
			if _, err := config.Parse("block.yaml", []byte(text)); err != nil {
				t.Errorf("%s: under %q: %v\n%s", d.path, b.heading, err, text)
			}
		}
	}
	if found < 7 {
		t.Errorf("only %d configurations were found", found)
	}
}

var (
	target  = regexp.MustCompile(`^make ([a-z-]+)`)
	inHouse = regexp.MustCompile(`^(\.ci|bench|cmd|dhcpd|docs|encap|fdb|internal|packaging|vtep)(/[\w*.-]+)+$`)
)

func TestEveryPathAndMakeTargetInTheDocumentsExists(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	paths, targets := 0, 0
	for _, d := range documents(t) {
		for _, line := range d.shell() {
			if m := target.FindStringSubmatch(line); m != nil {
				targets++
				if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(makefile) {
					t.Errorf("%s: %q: the Makefile has no %s", d.path, line, m[1])
				}
			}
			if inHouse.MatchString(line) {
				paths++
				if files, err := filepath.Glob(filepath.Join(repository, line)); err != nil || len(files) == 0 {
					t.Errorf("%s: there is no %s", d.path, line)
				}
			}
		}
	}
	if paths < 10 || targets < 2 {
		t.Errorf("only %d paths and %d targets were found", paths, targets)
	}
}
