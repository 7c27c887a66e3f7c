GO ?= go

.PHONY: all build demo test deps lint cross unit race fuzz bench bench-compare pgo dhcp-table conformance-table clean

all: build

# What git knows of this tree, told to the program. Empty where there is no git.
VERSION := $(shell git describe --tags --dirty 2>/dev/null)
COMMIT := $(shell git describe --always --exclude='*' --abbrev=12 --dirty 2>/dev/null)

# One static binary, the same from every checkout of a commit.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false \
	  -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/uvtep ./cmd/uvtep

# The main job, shown: two hosts, four guests, two segments with the same
# addresses. KEEP=1 leaves it running and says how to look around.
demo: build
	@sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo env $${NO_COLOR:+NO_COLOR=1} bin/uvtep lab demo $(if $(filter-out 0 no,$(KEEP)),--keep)

# Everything that has to pass: lint, then all tests, then those again that the race
# detector can tell something of. What was skipped, and why, stands at the end.
test: deps lint cross
	$(GO) run ./internal/testreport "$(UNIT)" "$(RACE)"

# Without the profile: it changes speed, not what is tested, and costs minutes.
test unit race: export GOFLAGS := -pgo=off

UNIT = -count=1 ./...
RACE = -count=1 -short -race -skip=$(subst $(space),|,$(RACE_LEAVES)) ./...

# What the first run does and the second, with the race detector, leaves: tests
# that drive programs built without it, and tables that are only larger than others.
RACE_LEAVES = TestTheCommandsOfTheREADMEDoWhatItSays TestAnIdleDaemonNeedsLittle \
  TestARunMeasuresEverythingOfEverySystemAndLeavesNothing TestARunThatIsInterruptedLeavesNothing \
  TestEveryBehaviourOfTheListHolds TestTheTableInTheDocsIsWhatTheServersDo TestTheBootExampleOfTheDocsBootsEveryMachine \
  TestAMachineBootsFromTheNetworkAcrossTheTunnel TestVirtualMachines TestTheSwitchDoesWhatPeersAndGuestsRelyOn TestTheTableInTheDocsIsWhatLinuxDoes \
  TestEveryScenarioRunsAndAllocatesNothing/./1000000
space := $(subst ,, )

unit: ; $(GO) run ./internal/testreport "$(UNIT)"
race: ; $(GO) run ./internal/testreport "$(RACE)"

# What the tests need from the distribution, by command and package.
TEST_NEEDS = ip:iproute2 ping:iputils-ping ethtool:ethtool gcc:build-essential \
  udhcpc:udhcpc dhclient:isc-dhcp-client dhcpcd:dhcpcd-base \
  /lib/systemd/systemd-networkd:systemd dhcp6c:wide-dhcpv6-client rdisc6:ndisc6 iperf3:iperf3 tshark:tshark \
  ovs-vswitchd:openvswitch-switch perfdhcp:kea-admin kea-dhcp4:kea-dhcp4-server dnsmasq:dnsmasq-base \
  qemu-system-x86_64:qemu-system-x86 xz:xz-utils

# Much of it lies where only root looks.
deps test unit race: export PATH := $(PATH):/usr/sbin:/sbin

deps:
	@.ci/deps $(TEST_NEEDS)
	@.ci/guest bin/guest

lint:
	@out="$$(gofmt -l .)"; if [ -n "$$out" ]; then echo "gofmt would change:" $$out >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Other systems and processors: everything compiles, the tests included.
cross:
	@for to in linux/arm64 darwin/arm64 windows/amd64; do \
	  echo "$(GO) vet for $$to"; \
	  CGO_ENABLED=0 GOOS=$${to%/*} GOARCH=$${to#*/} $(GO) vet ./... || exit; \
	done

# Every fuzz target of the tree for a while, one after the other: FUZZTIME=30s, and
# FUZZ=Request for those that match. What fails is kept in testdata, where it is a
# test from then on; what was found to be of use stays in Go's cache.
FUZZTIME = 30s
fuzz: export GOFLAGS := -pgo=off
fuzz:
	@.ci/fuzz "$(FUZZTIME)" "$(FUZZ)"

# The fast path in memory, by its steps and as a whole: BENCH="--for 3s -j". End
# to end, as root: bin/uvtep bench e2e; DHCP servers, as root: bin/uvtep bench dhcp.
bench:
	@$(GO) run ./cmd/uvtep bench $(BENCH)

# The same at another revision and here, in turn, held against each other:
# BASE=rev [BENCH_FILTER=to-].
bench-compare:
	@.ci/bench-compare "$(or $(BASE),$(error say against what: make bench-compare BASE=rev))" "$(BENCH_FILTER)"

# The table of docs/dhcp.md: what this program, dnsmasq and Kea do, asked anew.
dhcp-table conformance-table: export PATH := $(PATH):/usr/sbin:/sbin
dhcp-table: deps
	$(GO) test -count=1 -run TestEveryBehaviourOfTheListHolds ./internal/dhcpcheck
	$(GO) test -count=1 -run TestTheTableInTheDocsIsWhatTheServersDo ./internal/dhcpcheck -update

# The table of docs/conformance.md: what Linux's own bridge and vxlan do, asked anew.
conformance-table: deps
	$(GO) test -count=1 -run TestTheTableInTheDocsIsWhatLinuxDoes ./internal/conformance -update

# The profile that the compiler lays the program out by, made anew where the fast
# path has changed. The table is left out: it is written to be free of branches,
# which a profile undoes.
pgo:
	$(GO) test -pgo=off -run '^$$' -bench '/(port-to|tunnel-to|split|merge)' -benchtime 3s -cpuprofile bin/bench.pprof -o bin/bench.test ./bench
	$(GO) tool pprof -proto -ignore='/fdb\.' -output cmd/uvtep/default.pgo bin/bench.test bin/bench.pprof
	rm bin/bench.test bin/bench.pprof

clean:
	rm -rf bin dist
