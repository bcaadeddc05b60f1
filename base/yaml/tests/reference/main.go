// Asks the real library: what does sigs.k8s.io/yaml make of a text? Used to write tests/data/kubernetes_scalars.json and
// for the differential run (see the README of the crate); no test needs it.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	goyaml "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"
)

// stdin: JSON list of texts (mode "table"); or a list of files, one a line (mode "files"): out: one JSON line each.
func conv(b []byte, strict bool) (out string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic %v", r)
		}
	}()
	var j []byte
	if strict {
		j, err = yaml.YAMLToJSONStrict(b)
	} else {
		j, err = yaml.YAMLToJSON(b)
	}
	return string(j), err
}

// The conversion stops after the first document; this reads on to the end ("table all").
func rest(b []byte) (err error) {
	d := goyaml.NewDecoder(bytes.NewReader(b))
	for {
		var v interface{}
		if err = d.Decode(&v); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

func split(b []byte) [][]byte {
	var docs [][]byte
	var cur []byte
	for _, line := range bytes.SplitAfter(b, []byte("\n")) {
		if bytes.HasPrefix(line, []byte("---")) && (len(bytes.TrimRight(line, " \r\n")) == 3 || line[3] == ' ') {
			docs = append(docs, cur)
			cur = nil
			continue
		}
		cur = append(cur, line...)
	}
	return append(docs, cur)
}

type row struct {
	Name  string   `json:"name"`
	JSON  []string `json:"json"`
	Error string   `json:"error"`
}

func main() {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	switch os.Args[1] {
	case "table":
		var in []string
		b, _ := io.ReadAll(os.Stdin)
		if err := json.Unmarshal(b, &in); err != nil {
			panic(err)
		}
		for _, t := range in {
			j, err := conv([]byte(t), false)
			if err == nil && len(os.Args) > 2 {
				err = rest([]byte(t))
			}
			r := row{Name: t}
			if err != nil {
				r.Error = err.Error()
			} else {
				r.JSON = []string{j}
			}
			enc.Encode(r)
		}
	case "files":
		s := bufio.NewScanner(os.Stdin)
		for s.Scan() {
			b, _ := os.ReadFile(s.Text())
			r := row{Name: s.Text()}
			for _, d := range split(b) {
				j, err := conv(d, true)
				if err != nil {
					r.Error = err.Error()
					break
				}
				if j != "null" {
					r.JSON = append(r.JSON, j)
				}
			}
			enc.Encode(r)
		}
	}
}
