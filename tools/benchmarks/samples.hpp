// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::tools {

/// What several runs of the same work have measured, printed as one JSON object a run.
class Samples {
public:
    /// `names` of the figures of each run, with their units. `label`: members that each object
    /// begins with, as "\"layout\":\"raw\","; empty where there is one kind of run only.
    explicit Samples(std::initializer_list<std::string_view> names, std::string label = {});

    /// In the order of the names, as many; prints them.
    void add(const std::vector<double>& figures);
    /// Of each figure for itself. Some were added.
    void print_medians() const;

private:
    void print(std::string_view run, const std::vector<double>& figures) const;

    std::vector<std::string_view> names_;
    std::string label_;
    std::vector<std::vector<double>> by_figure_;
};

} // namespace wherry::tools
