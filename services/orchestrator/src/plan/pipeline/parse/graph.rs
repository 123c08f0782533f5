//! What the stages of a pipeline are to each other: names, needs, order, repair. Knows nothing of what
//! a stage does.

use std::collections::HashMap;

use contracts::parse::{Fields, is_slug, nearest};
use contracts::task::AgentType;

use super::{Draft, clip, stage_field};
use crate::plan::order::{self, Tangle};
use crate::plan::pipeline::{Need, Repair, StageDefinition};

pub(super) fn names(fields: &mut Fields, drafts: &[Draft]) -> HashMap<String, usize> {
    let mut names: HashMap<String, usize> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        let name = &draft.definition.name;
        if let Some(first) = names.get(name) {
            fields.wrong(
                format!("{}.name", stage_field(index)),
                format!("{} is the name of stages[{first}] already", clip(name)),
            );
        } else {
            names.insert(name.clone(), index);
        }
    }
    names
}

/// Numbers of the needed stages; unknown ones are told and left out.
pub(super) fn resolve_needs(
    fields: &mut Fields,
    drafts: &[Draft],
    names: &HashMap<String, usize>,
) -> Vec<Vec<usize>> {
    let mut resolved = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let mut needs = Vec::with_capacity(draft.needs.len());
        for (number, (name, _)) in draft.needs.iter().enumerate() {
            match names.get(name) {
                Some(&need) => needs.push(need),
                None => fields.wrong(
                    format!("{}.needs[{number}].stage", stage_field(index)),
                    unknown(name, drafts),
                ),
            }
        }
        resolved.push(needs);
    }
    resolved
}

fn unknown(name: &str, drafts: &[Draft]) -> String {
    if name.is_empty() {
        return "is required".to_owned();
    }
    let clipped = clip(name);
    // Comparing is quadratic in the length of the names; nothing longer can be right.
    let near = if name.len() <= 2 * 63 {
        let known = drafts.iter().map(|draft| draft.definition.name.as_str());
        nearest(name, known.filter(|known| is_slug(known)))
    } else {
        None
    };
    match near {
        Some(near) => {
            format!("{clipped} is not a stage of this pipeline; did you mean \"{near}\"?")
        }
        None => format!("{clipped} is not a stage of this pipeline"),
    }
}

pub(super) fn tell_tangle(
    fields: &mut Fields,
    drafts: &[Draft],
    needs: &[Vec<usize>],
    tangle: &Tangle,
) {
    let name = |index: usize| drafts[index].definition.name.as_str();
    for cycle in &tangle.cycles {
        let path: Vec<_> = cycle.iter().map(|&index| name(index)).collect();
        let number = need_number(needs, cycle[0], cycle[1]);
        fields.wrong(
            format!("{}.needs[{number}].stage", stage_field(cycle[0])),
            format!("is part of a cycle: {}", path.join(" -> ")),
        );
    }
    for &(node, need) in &tangle.unreachable {
        let number = need_number(needs, node, need);
        fields.wrong(
            format!("{}.needs[{number}].stage", stage_field(node)),
            format!(
                "can never be reached: {} depends on a cycle",
                clip(name(need))
            ),
        );
    }
}

fn need_number(needs: &[Vec<usize>], node: usize, need: usize) -> usize {
    needs[node]
        .iter()
        .position(|&other| other == need)
        .unwrap_or_default()
}

/// The stages in their order, with numbers in place of names.
pub(super) fn in_order(
    fields: &mut Fields,
    drafts: Vec<Draft>,
    names: &HashMap<String, usize>,
    needs: &[Vec<usize>],
    order: &[usize],
) -> Vec<StageDefinition> {
    let mut place = vec![0; order.len()];
    for (to, &from) in order.iter().enumerate() {
        place[from] = to;
    }
    let ordered_needs: Vec<Vec<usize>> = order
        .iter()
        .map(|&from| needs[from].iter().map(|&need| place[need]).collect())
        .collect();
    let ancestors = order::ancestors(&ordered_needs);
    let types: Vec<AgentType> = drafts
        .iter()
        .map(|draft| draft.definition.agent_type)
        .collect();
    let repairs: Vec<Option<Repair>> = (0..drafts.len())
        .map(|index| {
            let (name, max_rounds) = drafts[index].repair.as_ref()?;
            let field = format!("{}.repair.stage", stage_field(index));
            let Some(&stage) = names.get(name) else {
                fields.wrong(field, unknown(name, &drafts));
                return None;
            };
            if ancestors[place[index]] & (1 << place[stage]) == 0 {
                fields.wrong(
                    field,
                    format!("{} is not a stage that this one needs", clip(name)),
                );
            } else if types[stage] != AgentType::Scaffold {
                fields.wrong(
                    field,
                    format!("{} is not a scaffold stage: it cannot repair", clip(name)),
                );
            }
            Some(Repair {
                stage: place[stage],
                max_rounds: *max_rounds,
            })
        })
        .collect();

    let mut stages: Vec<(usize, StageDefinition)> = drafts
        .into_iter()
        .zip(repairs)
        .enumerate()
        .map(|(from, (draft, repair))| {
            let known = draft
                .needs
                .iter()
                .filter(|(name, _)| names.contains_key(name));
            let needs = known
                .zip(&ordered_needs[place[from]])
                .map(|((_, condition), &stage)| Need {
                    stage,
                    condition: *condition,
                })
                .collect();
            let definition = StageDefinition {
                needs,
                repair,
                ancestors: ancestors[place[from]],
                descendants: descendants(&ancestors, place[from]),
                ..draft.definition
            };
            (place[from], definition)
        })
        .collect();
    stages.sort_by_key(|(to, _)| *to);
    stages.into_iter().map(|(_, stage)| stage).collect()
}

fn descendants(ancestors: &[order::Set], of: usize) -> order::Set {
    (0..ancestors.len())
        .filter(|&node| ancestors[node] & (1 << of) != 0)
        .fold(0, |all, node| all | 1 << node)
}
