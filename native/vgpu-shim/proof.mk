# What proves the library beyond its probes: unit programs of its own sources, sanitizers, fuzzers. Included by the
# Makefile; nothing here goes into libvgpu.so.
#   make units                 $OUT/shim-units/: for aarch64 statically linked, so that an emulator needs no system
#   make sanitize              $OUT/{asan,ubsan,tsan}/: library, probes and units, each with one sanitizer (gcc)
#   make fuzzers               $OUT/fuzz/: what `fuzz` runs (clang with libFuzzer)
#   make fuzz SECONDS=300      all fuzzers, for so long altogether; new findings go to $OUT/fuzz/
SECONDS ?= 300
GCC ?= gcc
CLANG ?= clang-14
MUSL_GCC ?= musl-gcc

CORE := $(addprefix $(HERE)src/,region.c slots.c accounting.c repair.c budget.c futex_lock.c environment.c log.c) $(HERE)tests/units/process.c
CORE_HEADERS := $(wildcard $(HERE)src/*.h) $(HERE)include/vgpu_abi.h $(HERE)tests/units/unit.h
PROOF_FLAGS := -std=c11 -D_GNU_SOURCE -fno-strict-aliasing -Wall -Wextra -Werror -DVGPU_VERSION='"$(VERSION)"'
UNIT_NAMES := accounts hammer
UNIT_TARGET_x86_64 := -target x86_64-linux-gnu.2.17
UNIT_TARGET_aarch64 := -target aarch64-linux-musl -static

.PHONY: units sanitize fuzzers fuzz plain
units: $(addprefix $(OUT)/shim-units/,$(UNIT_NAMES))

$(OUT)/shim-units/%: $(HERE)tests/units/%.c $(CORE) $(CORE_HEADERS)
	@mkdir -p $(dir $@)
	@echo "  cc $(notdir $@)"; $(CC) $(PROOF_FLAGS) -O2 -fno-sanitize=undefined $(UNIT_TARGET_$(ARCH)) -o $@ $< $(CORE) -lpthread

# A program of a musl image, and one that no preload reaches.
plain: $(OUT)/shim-plain/musl $(OUT)/shim-plain/static

$(OUT)/shim-plain/musl: $(HERE)tests/plain.c
	@mkdir -p $(dir $@)
	@echo "  cc plain/musl"; $(MUSL_GCC) -std=c11 -O1 -Wall -Wextra -Werror -o $@ $<

$(OUT)/shim-plain/static: $(HERE)tests/plain.c
	@mkdir -p $(dir $@)
	@echo "  cc plain/static"; $(MUSL_GCC) -static -std=c11 -O1 -Wall -Wextra -Werror -o $@ $<

# A look-up by name may come before a sanitizer's runtime is up, so what serves it is not instrumented; and gcc cannot
# be told to make a tail call. Warnings are the real build's matter: these are other compilers.
FLAGS_asan := -fsanitize=address
FLAGS_ubsan := -fsanitize=undefined -fno-sanitize-recover=all
FLAGS_tsan := -fsanitize=thread
EARLY := lookups functions dynamic_linker generated/function_table
SANITIZE_FLAGS := -std=c11 -D_GNU_SOURCE -g -O1 -fPIC -fvisibility=hidden -fno-strict-aliasing -w \
	-DVGPU_VERSION='"$(VERSION)"'
PROBE_NAMES := $(patsubst $(HERE)tests/%.c,%,$(filter-out $(HERE)tests/plain.c,$(wildcard $(HERE)tests/*.c)))

define sanitized_by
sanitize: $(OUT)/$(1)/libvgpu.so $(addprefix $(OUT)/$(1)/shim-probes/,$(PROBE_NAMES)) \
	$(addprefix $(OUT)/$(1)/shim-units/,$(UNIT_NAMES))

$(OUT)/$(1)/libvgpu.so: $(SOURCES:$(HERE)src/%.c=$(OUT)/$(1)/objects/%.o)
	@echo "  ld $(1)/libvgpu.so"; $(GCC) -shared $(FLAGS_$(1)) -Wl,--version-script=$(HERE)src/generated/exports.map \
		-Wl,-soname,libvgpu.so -Wl,-z,nodelete -o $$@ $$^

$(EARLY:%=$(OUT)/$(1)/objects/%.o): $(OUT)/$(1)/objects/%.o: $(HERE)src/%.c $(HERE)proof.mk
	@mkdir -p $$(dir $$@)
	@$(CLANG) $(SANITIZE_FLAGS) -include $(HERE)tests/early.h -MMD -MP -c -o $$@ $$<

$(OUT)/$(1)/objects/%.o: $(HERE)src/%.c $(HERE)proof.mk
	@mkdir -p $$(dir $$@)
	@$(GCC) $(SANITIZE_FLAGS) $(FLAGS_$(1)) -MMD -MP -c -o $$@ $$<

$(OUT)/$(1)/shim-probes/linked_%: $(HERE)tests/linked_%.c $(OUT)/shim-objects/stub/libcuda.so.1
	@mkdir -p $$(dir $$@)
	@$(GCC) -std=c11 -g -O1 -w $(FLAGS_$(1)) -o $$@ $$< $(OUT)/shim-objects/stub/libcuda.so.1 -ldl

$(OUT)/$(1)/shim-probes/%: $(HERE)tests/%.c
	@mkdir -p $$(dir $$@)
	@$(GCC) -std=c11 -D_GNU_SOURCE -g -O1 -w $(FLAGS_$(1)) -o $$@ $$< -ldl -lpthread

$(OUT)/$(1)/shim-units/%: $(HERE)tests/units/%.c $(CORE) $(CORE_HEADERS)
	@mkdir -p $$(dir $$@)
	@$(GCC) $(SANITIZE_FLAGS) $(FLAGS_$(1)) -o $$@ $$< $(CORE) -lpthread

-include $(SOURCES:$(HERE)src/%.c=$(OUT)/$(1)/objects/%.d)
endef
$(foreach name,asan ubsan tsan,$(eval $(call sanitized_by,$(name))))

FUZZERS := share words
fuzzers: $(addprefix $(OUT)/fuzz/,$(FUZZERS))

$(OUT)/fuzz/%: $(HERE)tests/fuzz/%.c $(CORE) $(CORE_HEADERS)
	@mkdir -p $(dir $@)
	@echo "  cc fuzz/$(notdir $@)"; $(CLANG) $(PROOF_FLAGS) -g -O1 -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -o $@ $< $(CORE)

# Findings that reach new code are kept beside the program, so that a run goes on where the last one ended.
fuzz: fuzzers
	@for name in $(FUZZERS); do mkdir -p $(OUT)/fuzz/$$name.found && \
		$(OUT)/fuzz/$$name -max_total_time=$$(( $(SECONDS) / $(words $(FUZZERS)) )) -timeout=10 -print_final_stats=1 \
		-artifact_prefix=$(OUT)/fuzz/$$name. $(OUT)/fuzz/$$name.found $(HERE)tests/fuzz/corpus/$$name || exit 1; done
