//go:build tools

// Package tools pins sops, which `../build sops` builds.
package tools

import _ "github.com/getsops/sops/v3/cmd/sops"
