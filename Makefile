GO ?= go

.PHONY: all build demo test deps lint unit race clean

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

# Everything that has to pass: lint, then the tests, then again with the race
# detector where goroutines meet.
test: deps lint unit race

# What the tests need from the distribution, by command and package.
TEST_NEEDS = ip:iproute2 ping:iputils-ping ethtool:ethtool gcc:build-essential

deps:
	@missing=""; for need in $(TEST_NEEDS); do \
	  command -v $${need%%:*} >/dev/null || missing="$$missing $${need#*:}"; done; \
	if [ -n "$$missing" ]; then \
	  echo "the tests need these packages, which are being installed:$$missing"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	fi

lint:
	@out="$$(gofmt -l .)"; if [ -n "$$out" ]; then echo "gofmt would change:" $$out >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

unit:
	$(GO) test -count=1 ./...

race:
	$(GO) test -count=1 -short -race ./...

clean:
	rm -rf bin dist
