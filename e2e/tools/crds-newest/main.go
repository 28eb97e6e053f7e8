// Validates CRDs as the API server of one Kubernetes version does when an object is created: strict decoding, defaults,
// conversion to the internal type, then the registry's own checks, with that version's CEL functions and cost limits.
// The version is that of k8s.io/apiextensions-apiserver in go.mod.
//
//	crds FILE...
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

func main() {
	version, err := kubernetes()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	if len(os.Args) == 1 {
		fmt.Fprintln(os.Stderr, "usage: crds FILE...")
		os.Exit(2)
	}
	refused := false
	for _, file := range os.Args[1:] {
		name, err := create(scheme, file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s: refused: %v\n", version, file, err)
			refused = true
			continue
		}
		fmt.Printf("%s: %s ok\n", version, name)
	}
	if refused {
		os.Exit(1)
	}
}

// Does what the API server does with a POST before it stores the object. A warning is an error here.
func create(scheme *runtime.Scheme, file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	decoded, err := runtime.Decode(codecs.UniversalDecoder(apiextensions.SchemeGroupVersion), text)
	if err != nil {
		return "", err
	}
	crd, ok := decoded.(*apiextensions.CustomResourceDefinition)
	if !ok {
		return "", fmt.Errorf("it is a %T, not a CustomResourceDefinition", decoded)
	}
	strategy := customresourcedefinition.NewStrategy(scheme)
	// CRDs have no namespace.
	context := genericapirequest.WithNamespace(genericapirequest.NewContext(), "")
	rest.FillObjectMetaSystemFields(crd)
	if err := rest.BeforeCreate(strategy, context, crd); err != nil {
		return "", err
	}
	if warnings := strategy.WarningsOnCreate(context, crd); len(warnings) > 0 {
		return "", fmt.Errorf("warning: %s", strings.Join(warnings, "; "))
	}
	return crd.Spec.Names.Plural, nil
}

// The version of Kubernetes that the linked module is a part of: v0.32.1 is of 1.32.1.
func kubernetes() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, module := range info.Deps {
			if module.Path == "k8s.io/apiextensions-apiserver" {
				return "1" + strings.TrimPrefix(module.Version, "v0"), nil
			}
		}
	}
	return "", fmt.Errorf("this program was built without the versions of its modules")
}
