// allocator answers allocation questions with the scheduler's own code: one JSON object a line on standard input
// (slices, classes, claims that have an allocation, claims that wait, a node), one on standard output (whether they
// fit, and what each device gives). It is the judge of our own arithmetic, which cannot import Go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

const longestLine = 16 << 20

// What kube-scheduler 1.37 enables by default.
var features = structured.Features{
	AdminAccess:             true,
	ConsumableCapacity:      true,
	DeviceBindingAndStatus:  true,
	DeviceTaints:            true,
	FractionalCapacityRange: true,
	PartitionableDevices:    true,
	PrioritizedList:         true,
}

type question struct {
	Slices    []*resourceapi.ResourceSlice `json:"slices"`
	Classes   []*resourceapi.DeviceClass   `json:"classes"`
	Allocated []*resourceapi.ResourceClaim `json:"allocated"`
	Wanted    []*resourceapi.ResourceClaim `json:"wanted"`
	Node      *v1.Node                     `json:"node"`
}

type answer struct {
	Fits    bool                                          `json:"fits"`
	Results [][]resourceapi.DeviceRequestAllocationResult `json:"results,omitempty"`
	Error   string                                        `json:"error,omitempty"`
}

type classes map[string]*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) {
	all := make([]*resourceapi.DeviceClass, 0, len(c))
	for _, class := range c {
		all = append(all, class)
	}
	return all, nil
}

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	if class, found := c[name]; found {
		return class, nil
	}
	return nil, fmt.Errorf("device class %q not found", name)
}

// taken repeats what the scheduler's plugin gathers from claims before it asks the allocator
// (pkg/scheduler/framework/plugins/dynamicresources/allocateddevices.go).
func taken(claims []*resourceapi.ResourceClaim) structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for _, claim := range claims {
		if claim.Status.Allocation == nil {
			continue
		}
		for _, result := range claim.Status.Allocation.Devices.Results {
			if result.AdminAccess != nil && *result.AdminAccess {
				continue
			}
			id := structured.MakeDeviceID(result.Driver, result.Pool, result.Device)
			if result.ShareID == nil {
				state.AllocatedDevices.Insert(id)
				continue
			}
			state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, result.ShareID))
			if result.ConsumedCapacity != nil {
				state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, result.ConsumedCapacity))
			}
		}
	}
	return state
}

func reply(ctx context.Context, line []byte, cache *cel.Cache) answer {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: "question: " + err.Error()}
	}
	known := classes{}
	for _, class := range asked.Classes {
		known[class.Name] = class
	}
	allocator, err := structured.NewAllocator(ctx, features, taken(asked.Allocated), known, asked.Slices, cache)
	if err != nil {
		return answer{Error: err.Error()}
	}
	allocations, err := allocator.Allocate(ctx, asked.Node, asked.Wanted)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if allocations == nil {
		return answer{}
	}
	given := answer{Fits: true}
	for _, allocation := range allocations {
		given.Results = append(given.Results, allocation.Devices.Results)
	}
	return given
}

func main() {
	ctx := context.Background()
	cache := cel.NewCache(1000, cel.Features{EnableConsumableCapacity: true})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, 1<<20), longestLine)
	output := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(output)
	for lines.Scan() {
		if err := encoder.Encode(reply(ctx, lines.Bytes(), cache)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		output.Flush()
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
