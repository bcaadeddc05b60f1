//go:build tools

// Package tools pins kubeseal, which `../build kubeseal` builds.
package tools

import _ "github.com/bitnami-labs/sealed-secrets/cmd/kubeseal"
