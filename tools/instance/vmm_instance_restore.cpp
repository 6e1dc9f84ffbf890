// SPDX-License-Identifier: Apache-2.0
// A VM that comes out of an image: who may go on with it, and how it does.
#include "migrate/host_memory.hpp"
#include "migrate/image/guest_restore.hpp"
#include "migrate/image/touch_order_file.hpp"
#include "tools/instance/vmm_instance.hpp"

#include <future>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <unistd.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

/// Above that of everything the VM was before, so that no old word fits.
migrate::Epoch epoch_after(const migrate::ImageDescription& image) {
    return migrate::next(image.epoch);
}

/// What a shared arbiter says of a VM whose destination had it as it was salvaged.
migrate::ArbiterRecord committed_before(const migrate::ImageDescription& image) {
    return {
        migrate::RecordKind::committed,
        migrate::Epoch{static_cast<std::uint64_t>(image.epoch) - 1}};
}

/// Of a VM that went on, and may do so to this day: what comes of it is another one. All other
/// images are of a migration that was given up.
bool is_snapshot(const migrate::ImageDescription& image) {
    return image.extent == migrate::ImageExtent::whole && image.migration_id.empty();
}

/// Whether a hand-over with such a last record is not over: the VM may yet be this side's.
bool is_open(migrate::RecordKind last) {
    return last == migrate::RecordKind::offered || last == migrate::RecordKind::committed ||
           last == migrate::RecordKind::accepted;
}

/// Whether a name with such a record is free for another VM.
bool is_gone(migrate::RecordKind last) {
    return last == migrate::RecordKind::handed_off || last == migrate::RecordKind::abandoned ||
           last == migrate::RecordKind::salvaged;
}

bool has_arbiter(const migrate::ImageDescription& image, AskArbiter ask) {
    return ask == AskArbiter::yes && migrate::is_shared_arbiter(image.arbiter);
}

template <typename Image>
Status check_extent(const Image& image, bool as_of_switch) {
    switch (image.description().extent) {
    case migrate::ImageExtent::whole:
        return {};
    case migrate::ImageExtent::destination_half:
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{0} is the destination's half: {1} pages of the guest's memory are not in it. "
                "With "
                "the source's half: wherry image join SOURCE.wimg {0} OUT.wimg",
                image.name(),
                image.description().absent.value()));
    case migrate::ImageExtent::source_half:
        break;
    }
    if (as_of_switch) {
        fmt::print(
            stderr,
            "wherry: {}: the guest goes on as it was when it was handed over; what it did on the "
            "destination since is not in it\n",
            image.name());
        return {};
    }
    return fail(
        ErrorCode::invalid_argument,
        fmt::format(
            "{0} is the source's half: with the destination's half it makes the guest as it is "
            "(wherry image join {0} DESTINATION.wimg OUT.wimg). Only if that is lost, and the VM "
            "never runs there again: wherry restore {0} --as-of-switch",
            image.name()));
}

/// A machine for the guest that a file says it is of, made before the file was found right.
struct EarlyMachine {
    vmm::MachineConfig config;
    std::unique_ptr<vmm::Machine> machine;
};

/// What hinders it comes out later, in its place.
std::optional<EarlyMachine> make_machine_early(const RestoreOptions& options) {
    auto begun = migrate::read_beginning(options.image, options.access);
    const auto memory = migrate::host_memory_headroom();
    if (!begun || !memory || begun->plan.config.memory > *memory) {
        return std::nullopt;
    }
    auto machine = vmm::Machine::create(begun->plan.config, options.host);
    if (!machine) {
        return std::nullopt;
    }
    return EarlyMachine{.config = std::move(begun->plan.config), .machine = *std::move(machine)};
}

// Both: while it is being made.
using MakingEarly = std::future<std::optional<EarlyMachine>>;
using Making = std::future<Result<std::unique_ptr<vmm::Machine>>>;

/// `early`, where that is such a machine.
template <typename Image>
Result<std::unique_ptr<vmm::Machine>>
machine_for(const Image& image, const vmm::MachineHost& host, std::optional<EarlyMachine> early) {
    const vmm::MachineConfig& config = image.description().plan.config;
    if (early && early->config != config) {
        early.reset();
    }
    auto backend = early ? early->machine->backend() : vmm::probe(host.hypervisor);
    if (!backend) {
        return fail(std::move(backend).error());
    }
    const auto memory = migrate::host_memory_headroom();
    if (!memory) {
        return fail(memory.error());
    }
    auto accepted =
        migrate::accept_image(image, {.backend = *std::move(backend), .available_memory = *memory});
    if (!accepted) {
        return fail(std::move(accepted).error());
    }
    return early ? std::move(early->machine) : vmm::Machine::create(config, host);
}

/// Memory and state of the guest; the machine is the instance's then.
template <typename Image>
Status take_guest_in(
    VmmInstance& instance,
    Image& image,
    Making& making,
    migrate::RestoredAs as,
    const RestoreOptions& /*options*/) {
    auto machine = making.get();
    if (!machine) {
        return fail(std::move(machine).error());
    }
    auto restored = migrate::restore_guest(image, **machine, as);
    if (restored) {
        instance.adopt(*std::move(machine));
    }
    return restored;
}

Status take_guest_in_lazily(
    VmmInstance& instance,
    migrate::ImageChain& image,
    Making& making,
    migrate::RestoredAs as,
    const RestoreOptions& options) {
    const auto map = image.page_map_parts(); // while the machine is made; it is kept for later
    auto machine = making.get();
    if (!machine) {
        return fail(std::move(machine).error());
    }
    if (!map) {
        return fail(map.error());
    }
    const VmmInstance::RestoredImage from{.path = options.image, .root = image.image().root()};
    migrate::LazyMemoryOptions how{
        .prefetch =
            options.memory == RestoreMemory::ahead ? migrate::Prefetch::on : migrate::Prefetch::off,
        .first = migrate::read_touch_order(from.path, from.root)};
    auto memory = migrate::restore_guest_lazily(
        std::move(image), **machine, as, std::move(how), instance.image_events());
    if (!memory) {
        return fail(std::move(memory).error());
    }
    instance.adopt_lazily(*std::move(machine), *std::move(memory), from);
    return {};
}

} // namespace

/// No process has it: that the name was claimed says so.
Status VmmInstance::check_name_is_free() const {
    const auto last = keeper_->last();
    if (last && is_open(last->record.kind)) {
        return fail(
            ErrorCode::already_exists,
            fmt::format(
                "the process of {0} ended during a hand-over of its VM, which is not settled "
                "(wherry run or resolve {0}); take another name",
                name_.name()));
    }
    return {};
}

Status VmmInstance::check_image(const migrate::ImageDescription& image, AskArbiter ask) {
    auto id = migrate::VmId::parse(image.plan.vm_id);
    if (!id) {
        return fail(std::move(id).error());
    }
    keeper_->begin({});
    keeper_->set_vm_id(*id);
    const auto last = keeper_->last();
    const auto epoch = static_cast<std::uint64_t>(image.epoch);
    const bool is_other = last && last->vm_id.to_string() != image.plan.vm_id;
    if (is_other && !is_gone(last->record.kind)) {
        return fail(
            ErrorCode::already_exists,
            fmt::format("{} is another VM on this host; take another name", name_.name()));
    }
    if (last && !is_other && last->record.epoch > image.epoch) {
        return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "the image is of epoch {}, and this VM has been {} on this host since",
                epoch,
                static_cast<std::uint64_t>(last->record.epoch)));
    }
    if (!has_arbiter(image, ask)) {
        return {};
    }
    const auto says = keeper_->ask({.arbiter = image.arbiter, .wanted = std::nullopt, .asker = {}});
    if (!says) {
        return fail(formats::Error{says.error()}.during("asking the arbiter of the VM"));
    }
    if (*says != committed_before(image)) {
        return fail(
            ErrorCode::wrong_state,
            fmt::format(
                "arbiter {} does not say that this image is the VM's last state: it was restored "
                "before, or went on elsewhere. If you know better: --no-arbiter",
                image.arbiter));
    }
    return {};
}

Status VmmInstance::claim_image(const migrate::ImageDescription& image, AskArbiter ask) {
    epoch_ = epoch_after(image);
    if (has_arbiter(image, ask)) {
        const migrate::ArbiterRecord held{migrate::RecordKind::reclaimed, epoch_};
        const auto says = keeper_->ask(
            {.arbiter = image.arbiter, .wanted = held, .asker = migrate::Asker::source});
        if (!says || *says != held) {
            return fail(
                ErrorCode::in_doubt,
                fmt::format(
                    "arbiter {} has not given the VM to this side{}",
                    image.arbiter,
                    says ? "" : ": " + says.error().text()));
        }
    }
    return keeper_->write(
        {.kind = migrate::RecordKind::reclaimed,
         .epoch = epoch_,
         .pages_missing = false,
         .arbiter = image.arbiter,
         .migration_id = image.migration_id});
}

Status VmmInstance::become_new_vm() {
    if (auto is_free = check_name_is_free(); !is_free) {
        return is_free;
    }
    // As a VM that is started: nothing is known of it yet, anywhere.
    keeper_->set_vm_id(migrate::VmId::make());
    return {};
}

namespace {

template <typename Image, typename TakeIn>
ExitCode restore_from(
    Result<Image> image,
    const RestoreOptions& options,
    MakingEarly making_early,
    const TakeIn& take_guest_in) {
    if (!image) {
        return fail_with(image.error());
    }
    const auto description = image->description();
    const auto name = options.name.empty() ? description.plan.vm_name : options.name;
    // Beside what says whether it may be restored.
    Making making = std::async(std::launch::async, [&image, &options, &making_early] {
        auto early = making_early.valid() ? making_early.get() : std::nullopt;
        return machine_for(*image, options.host, std::move(early));
    });
    const bool is_new = options.is_clone || is_snapshot(description);
    const auto as = is_new ? migrate::RestoredAs::new_vm : migrate::RestoredAs::the_vm;
    const auto prepare = [&](VmmInstance& instance) -> Status {
        auto possible = check_extent(*image, options.as_of_switch);
        if (possible) {
            possible = is_new ? instance.become_new_vm()
                              : instance.check_image(description, options.arbiter);
        }
        if (possible) {
            possible = take_guest_in(instance, *image, making, as, options);
        }
        if (possible && !is_new) {
            possible = instance.claim_image(description, options.arbiter);
        }
        const bool stays_paused =
            options.start == StartState::paused || description.plan.stays_paused;
        if (possible && !stays_paused) {
            possible = instance.start();
        }
        return possible;
    };
    return serve_instance(name, options.host, prepare);
}

} // namespace

ExitCode restore_instance(const RestoreOptions& options) {
    if (options.image == "-") {
        auto stream = std::make_unique<migrate::StreamSource>(STDIN_FILENO, "standard input");
        return restore_from(
            migrate::ImageStream::open(std::move(stream), options.access),
            options,
            {},
            take_guest_in<migrate::ImageStream>);
    }
    // Beside the opening of the image.
    MakingEarly making_early =
        std::async(std::launch::async, [&options] { return make_machine_early(options); });
    return restore_from(
        migrate::ImageChain::open(options.image, options.access, options.bases),
        options,
        std::move(making_early),
        options.memory == RestoreMemory::now ? take_guest_in<migrate::ImageChain>
                                             : take_guest_in_lazily);
}

} // namespace wherry::tools
