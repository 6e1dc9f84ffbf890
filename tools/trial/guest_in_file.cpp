// SPDX-License-Identifier: Apache-2.0
#include "tools/trial/guest_in_file.hpp"

#include "migrate/image/guest_image.hpp"
#include "migrate/ownership/vm_id.hpp"
#include "vmm/cpu_profile.hpp"

#include <thread>
#include <utility>

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::chrono::milliseconds look_interval{20};

Status await_reports(GuestLog& log, const GuestInFileOptions& options) {
    const auto end = std::chrono::steady_clock::now() + options.patience;
    while (log.reports().size() < options.reports) {
        if (std::chrono::steady_clock::now() > end) {
            return fail(ErrorCode::timed_out, "the guest has not reported in time");
        }
        std::this_thread::sleep_for(look_interval);
        log.refresh();
    }
    return {};
}

migrate::ImageDescription snapshot_description() {
    migrate::ImageDescription description;
    description.plan.vm_name = "guest";
    description.plan.vm_id = migrate::VmId::make().to_string();
    description.written_at =
        std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    return description;
}

} // namespace

Result<GuestReport> write_guest_in_file(
    const GuestInFileOptions& options,
    const std::filesystem::path& log,
    const std::filesystem::path& image) {
    auto cpuid = vmm::cpuid_for(vmm::CpuProfile::host, options.hypervisor);
    if (!cpuid) {
        return fail(std::move(cpuid).error());
    }
    const auto machine = vmm::Machine::create(
        {.memory = options.memory, .vcpus = 1, .cpuid = *std::move(cpuid)},
        {.hypervisor = options.hypervisor, .serial = "file:" + log.string()});
    if (!machine) {
        return fail(machine.error());
    }
    GuestLog reports{log};
    auto done = (*machine)->boot(
        {.kernel = options.guest.string(), .initrd = {}, .command_line = options.guest_options});
    done = formats::then(std::move(done), [&] { return (*machine)->resume(); });
    done = formats::then(std::move(done), [&] { return await_reports(reports, options); });
    done = formats::then(std::move(done), [&] { return (*machine)->pause(); });
    done = formats::then(std::move(done), [&] {
        return migrate::write_guest(
            **machine,
            snapshot_description(),
            dirtylog::DirtySet{(*machine)->memory()},
            image,
            options.image);
    });
    if (!done) {
        return fail(std::move(done).error());
    }
    reports.refresh();
    return reports.reports().back();
}

} // namespace wherry::tools
