// SPDX-License-Identifier: Apache-2.0
// A VM that comes out of an image: who may go on with it, and how it does.
#include "migrate/host_memory.hpp"
#include "tools/instance/vmm_instance.hpp"

#include <utility>

#include <fmt/format.h>

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

/// Whether a name with such a record is free for another VM.
bool is_gone(migrate::RecordKind last) {
    return last == migrate::RecordKind::handed_off || last == migrate::RecordKind::abandoned ||
           last == migrate::RecordKind::salvaged;
}

bool has_arbiter(const migrate::ImageDescription& image, AskArbiter ask) {
    return ask == AskArbiter::yes && image.arbiter != "local";
}

Status check_extent(const migrate::ImageReader& image, bool as_of_switch) {
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

Result<std::unique_ptr<vmm::Machine>>
machine_from(migrate::ImageChain& chain, const vmm::MachineHost& host) {
    const auto& image = chain.image();
    auto backend = vmm::probe(host.hypervisor);
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
    auto machine = vmm::Machine::create(image.description().plan.config, host);
    if (!machine) {
        return machine;
    }
    auto restored = migrate::restore_guest(chain, **machine);
    if (!restored) {
        return fail(std::move(restored).error());
    }
    return machine;
}

} // namespace

Status VmmInstance::check_image(const migrate::ImageDescription& image, AskArbiter ask) {
    auto id = migrate::VmId::parse(image.plan.vm_id);
    if (!id) {
        return fail(std::move(id).error());
    }
    keeper_->begin(formats::Side::source, {}, {});
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

ExitCode restore_instance(const RestoreOptions& options) {
    return serve_instance(options.name, options.host, [&options](VmmInstance& instance) -> Status {
        auto chain = migrate::ImageChain::open(options.image, options.access, options.bases);
        if (!chain) {
            return fail(std::move(chain).error());
        }
        auto possible = check_extent(chain->image(), options.as_of_switch);
        if (possible) {
            possible = instance.check_image(chain->image().description(), options.arbiter);
        }
        if (!possible) {
            return possible;
        }
        auto machine = machine_from(*chain, options.host);
        if (!machine) {
            return fail(std::move(machine).error());
        }
        auto& restored = **machine;
        auto ours = instance.claim_image(chain->image().description(), options.arbiter);
        if (!ours) {
            return ours;
        }
        instance.adopt(*std::move(machine));
        return options.start == StartState::running ? restored.resume() : Status{};
    });
}

} // namespace wherry::tools
