// cdicheck reads CDI spec files with the code that containerd reads them with (strict parsing and
// validation), and says which it would refuse. Exit code 1 when there is one.
package main

import (
	"fmt"
	"os"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

func main() {
	refused := 0
	for _, path := range os.Args[1:] {
		spec, err := cdi.ReadSpec(path, 0)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: refused: %v\n", path, err)
			refused++
			continue
		}
		fmt.Printf("%s: %s, %d devices\n", path, spec.Kind, len(spec.Devices))
	}
	if refused > 0 {
		os.Exit(1)
	}
}
