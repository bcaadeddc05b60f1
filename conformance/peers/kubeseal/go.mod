module dodai.dev/conformance/peers/kubeseal

go 1.26.8
