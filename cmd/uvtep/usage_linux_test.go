package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongUsageIsOneLineInTheUsersWords(t *testing.T) {
	for _, tc := range []struct{ args, says string }{
		{"nosuch", `unknown command "nosuch"; see uvtep --help`},
		{"help nosuch", `unknown command "nosuch"; see uvtep --help`},
		{"help lease nosuch", `unknown command "lease nosuch"`},
		{"nosuch --help", `unknown command "nosuch"; see uvtep --help`},
		{"lease nosuch --help", `unknown command "lease nosuch"; see uvtep lease --help`},
		{"help shwo", "did you mean show?"},
		{"validate /nosuch", `"/nosuch" belongs to no flag; the file is named with -c; see uvtep validate --help`},
		{"run /nosuch", "the file is named with -c"},
		{"up --local 10.9.0.1 --vni 100 foo", `"foo" belongs to no flag; see uvtep up --help`},
		{"up --local 10.9.0.1 --vni 100 --peer 10.9.0.1", "--peer: 10.9.0.1 is this VTEP's own address, --local; see"},
		{"up --local 10.9.0.1 --vni 100 --http 0.0.0.0:80", "--http: 0.0.0.0 is not a loopback address"},
		{"version extra", `"extra" belongs to no flag`},
		{"lab down extra", `"extra" belongs to no flag`},
	} {
		uvtep(t, strings.Fields(tc.args)...).fails(t, 2, tc.says)
	}
}

func TestATabIsToldAsSuch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tab.yaml")
	if err := os.WriteFile(file, []byte("underlay:\n\tlocal: 10.9.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	uvtep(t, "validate", "-c", file).fails(t, 2, "tab.yaml:2:1: is a tab: YAML indents by blanks")
}

func TestTheVersionIsAFlagToo(t *testing.T) {
	if flag, command := uvtep(t, "--version").ok(t), uvtep(t, "version").ok(t); flag != command || !strings.HasPrefix(flag, "uvtep ") {
		t.Errorf("--version prints %q, version %q", flag, command)
	}
}

func TestHelpIsTheSameByFlagAndByCommand(t *testing.T) {
	for _, command := range []string{"", "lease", "lease reserve"} {
		words := strings.Fields(command)
		flag, help := uvtep(t, append(words, "--help")...).ok(t), uvtep(t, append([]string{"help"}, words...)...).ok(t)
		if flag != help || flag == "" {
			t.Errorf("%q: --help prints\n%s\nand help\n%s", command, flag, help)
		}
	}
}

func TestHelpNamesWhatFlagsTakeAndTheAPI(t *testing.T) {
	for command, words := range map[string][]string{
		"fdb add":       {"--mac MAC", "--dst IP", "--vni N"},
		"peer add":      {"--dst IP"},
		"lease reserve": {"--ip IP", "--mac MAC", "--client-id HEX"},
		"run":           {"/metrics", "/openapi.json", "/v1/segments", "/v1/workers"},
		"up":            {"--http ADDR"},
	} {
		out := uvtep(t, append(strings.Fields(command), "--help")...).ok(t)
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%s --help says nothing of %s:\n%s", command, w, out)
			}
		}
	}
}

func TestAPrintedConfigurationHasTheSocketAndTheAddressThatWereAskedFor(t *testing.T) {
	out := uvtep(t, "up", "--local", "10.9.0.1", "--vni", "100", "--socket", "/run/x.sock", "--http", "127.0.0.1:1", "--print-config").ok(t)
	if !strings.Contains(out, "api:\n  socket: /run/x.sock\n  http: 127.0.0.1:1\n") {
		t.Errorf("it is\n%s", out)
	}
	if out := uvtep(t, "up", "--local", "10.9.0.1", "--vni", "100", "--http", "", "--print-config").ok(t); !strings.Contains(out, `http: ""`) {
		t.Errorf("it is\n%s", out)
	}
	if out := uvtep(t, "up", "--local", "10.9.0.1", "--vni", "100", "--print-config").ok(t); strings.Contains(out, "api:") {
		t.Errorf("it is\n%s", out)
	}
}
