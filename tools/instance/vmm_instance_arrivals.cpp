// SPDX-License-Identifier: Apache-2.0
// Where an instance listens: for the VM that is to arrive, and for sources that ask afterwards.
#include "migrate/probe.hpp"
#include "tools/instance/security.hpp"
#include "tools/instance/vmm_instance.hpp"

#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

namespace wherry::tools {

using formats::ErrorCode;
using formats::Status;

Status VmmInstance::open_listener(const transport::Endpoint& at, transport::Security security) {
    auto opened = transport::Listener::open(session_.executor(), at, std::move(security));
    if (!opened) {
        return formats::fail(std::move(opened).error());
    }
    listener_.emplace(*std::move(opened));
    listens_on_ = listener_->local().to_string();
    return {};
}

Status VmmInstance::listen(const transport::Endpoint& at, transport::Security security) {
    auto opened = open_listener(at, std::move(security));
    if (!opened) {
        return opened;
    }
    transport::spawn(session_.executor(), take_in(*listener_), [this](const Status& ended) {
        if (!ended) {
            boost::asio::post(context_, [this, error = ended.error()] {
                print_error(error);
                finish(ExitCode::failed);
            });
        }
    });
    return {};
}

migrate::ReceptionOptions VmmInstance::manners() {
    migrate::ReceptionOptions options;
    options.on_refusal = print_error;
    return options;
}

std::string VmmInstance::has_had_its_vm() const {
    return name_.name() + " has had its VM, and takes no other in";
}

RecordOrigin VmmInstance::origin_of_arrivals(const std::string& peer) const {
    return {
        .side = formats::Side::destination,
        .peer = peer,
        .tls_directory = tls_directory_,
        .listens_on = listens_on_};
}

void VmmInstance::answer_the_door(
    migrate::Reception& reception, transport::Listener& listener, transport::TaskGroup& serving) {
    serving.start(reception.serve(listener), [&reception](const Status& ended) {
        if (!ended) {
            print_error(ended.error());
            reception.close(); // so that who waits for a VM hears of it
        }
    });
    migrate::InquiryDeskOptions desk;
    desk.keeper = keeper_.get();
    desk.find_owner = [this](const migrate::Inquiry& inquiry, const std::string& peer) {
        return owner_for(inquiry, peer);
    };
    desk.on_refusal = print_error;
    serving.start(migrate::answer_inquiries(reception, std::move(desk)));
}

transport::Task<void> VmmInstance::take_in(transport::Listener& listener) {
    const auto host = vmm::probe(host_.hypervisor);
    if (!host) {
        co_return formats::fail(host.error());
    }
    migrate::Reception reception{session_.executor(), manners()};
    transport::TaskGroup serving{session_.executor()};
    answer_the_door(reception, listener, serving);
    migrate::ProbeDeskOptions answers;
    answers.host = *host;
    answers.on_refusal = print_error;
    serving.start(migrate::answer_probes(reception, std::move(answers)));
    while (!arrived_as_) {
        auto intake = co_await reception.next_migration();
        if (!intake) {
            co_return formats::fail(std::move(intake).error());
        }
        bool began = false;
        is_taking_in_ = true;
        const auto job = std::make_shared<Job>(
            JobKind::receive, make_migration_id(), (*intake)->peer(), session_.executor());
        migrate::DestinationOptions options;
        options.host = *host;
        options.keeper = keeper_.get();
        options.desk = &job->desk();
        keeper_->begin(origin_of_arrivals((*intake)->peer()));
        options.make_machine =
            [this, job, &began](
                const migrate::Arrival& arrival) -> migrate::MachineFactory::result_type {
            auto id = migrate::VmId::parse(arrival.vm_id);
            if (!id) {
                return formats::fail(std::move(id).error().during("the source's name for the VM"));
            }
            keeper_->set_vm_id(*id);
            auto expected = Arrivals::awaited;
            if (!arrivals_.compare_exchange_strong(expected, Arrivals::begun)) {
                return formats::fail(
                    ErrorCode::refused, name_.name() + " is ending and takes no VM in");
            }
            began = true;
            boost::asio::post(context_, [this, job] {
                job_ = job;
                situation_ = Situation::incoming;
                if (end_wanted_) {
                    job_->gate().request_cancel();
                }
            });
            return vmm::Machine::create(arrival.config, host_);
        };
        auto outcome = co_await migrate::run_destination(
            *std::move(intake), std::move(options), job->gate(), *job);
        if (!outcome) {
            co_return formats::fail(std::move(outcome).error());
        }
        is_taking_in_ = false;
        if (!began) {
            if (outcome->error) {
                print_error(*outcome->error);
            }
            continue;
        }
        arrived_as_ = outcome->state;
        // A source that has not heard the last word may still ask.
        reception.turn_away(has_had_its_vm());
        boost::asio::post(context_, [this, job, result = *std::move(outcome)]() mutable {
            destination_concluded(job, std::move(result));
        });
    }
    co_return co_await serving.join();
}

void VmmInstance::listen_again() {
    const auto arrival = keeper_->arrival();
    if (!arrival || arrival->listens_on.empty()) {
        return; // it never came here, or is of a wherry that did not note where
    }
    auto listening = formats::then(
        transport::Endpoint::parse(arrival->listens_on), [&](const transport::Endpoint& at) {
            return formats::then(
                server_security(arrival->tls_directory), [&](transport::Security security) {
                    return open_listener(at, std::move(security));
                });
        });
    if (!listening) {
        fmt::print(
            stderr,
            "wherry: {}: a source that has not heard that the VM came here finds nobody at {}: {}; "
            "tell it by wherry resolve NAME --keep destination there\n",
            name_.name(),
            arrival->listens_on,
            listening.error().text());
        return;
    }
    fmt::print(
        stderr,
        "wherry: {}: listens on {}, where the VM came in from {}, for a source that has not heard "
        "of that\n",
        name_.name(),
        listens_on_,
        arrival->peer);
    transport::spawn(session_.executor(), answer_past_source(*listener_), [](const Status& ended) {
        if (!ended) {
            print_error(ended.error());
        }
    });
}

transport::Task<void> VmmInstance::answer_past_source(transport::Listener& listener) {
    arrived_as_ = migrate::DestinationState::done;
    was_booted_again_ = true;
    migrate::Reception reception{session_.executor(), manners()};
    reception.turn_away(has_had_its_vm());
    transport::TaskGroup serving{session_.executor()};
    answer_the_door(reception, listener, serving);
    co_return co_await serving.join();
}

} // namespace wherry::tools
