// Command manifests prints, as one JSON object, what KubeVirt's operator would install: the operator needs images and
// Deployments, the test bed runs the binaries as plain processes.
//
//	{"crds": [...], "objects": [...], "apiServices": [...], "webhooks": [...]}
package main

import (
	"encoding/json"
	"fmt"
	"os"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/rbac"
)

// namespace is the one that KubeVirt's binaries take themselves to run in outside of a pod.
const namespace = "kubevirt"

type manifests struct {
	CRDs        []any `json:"crds"`
	Objects     []any `json:"objects"`
	APIServices []any `json:"apiServices"`
	Webhooks    []any `json:"webhooks"`
}

func main() {
	made, err := generate()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(made)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func generate() (*manifests, error) {
	made := &manifests{}
	for _, make := range []func() (*extv1.CustomResourceDefinition, error){
		components.NewVirtualMachineInstanceCrd,
		components.NewVirtualMachineCrd,
		components.NewPresetCrd,
		components.NewReplicaSetCrd,
		components.NewVirtualMachineInstanceMigrationCrd,
		components.NewKubeVirtCrd,
		components.NewVirtualMachinePoolCrd,
		components.NewVirtualMachineSnapshotCrd,
		components.NewVirtualMachineSnapshotContentCrd,
		components.NewVirtualMachineRestoreCrd,
		components.NewVirtualMachineExportCrd,
		components.NewVirtualMachineBackupCrd,
		components.NewVirtualMachineBackupTrackerCrd,
		components.NewVirtualMachineInstancetypeCrd,
		components.NewVirtualMachineClusterInstancetypeCrd,
		components.NewVirtualMachinePreferenceCrd,
		components.NewVirtualMachineClusterPreferenceCrd,
		components.NewMigrationPolicyCrd,
		components.NewVirtualMachineCloneCrd,
	} {
		crd, err := make()
		if err != nil {
			return nil, err
		}
		made.CRDs = append(made.CRDs, crd)
	}

	objects := rbac.GetAllCluster()
	objects = append(objects, rbac.GetAllApiServer(namespace)...)
	objects = append(objects, rbac.GetAllController(namespace, false)...)
	objects = append(objects, rbac.GetAllHandler(namespace)...)
	for _, object := range objects {
		made.Objects = append(made.Objects, object)
	}
	made.Objects = append(made.Objects, components.NewKubeVirtPriorityClassCR(), components.NewApiServerService(namespace))

	for _, service := range components.NewVirtAPIAPIServices(namespace) {
		made.APIServices = append(made.APIServices, service)
	}
	made.Webhooks = append(made.Webhooks,
		components.NewVirtAPIMutatingWebhookConfiguration(namespace),
		components.NewVirtAPIValidatingWebhookConfiguration(namespace),
	)
	return made, nil
}
