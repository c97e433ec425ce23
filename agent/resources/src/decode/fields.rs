//! The fields of one object, taken by name; what is left over is unknown.

use super::{Context, Decode, one_of};
use crate::{
    Path,
    finding::{Problem, Rule, Severity},
    suggest::did_you_mean,
    yaml::{Member, Node, Value},
};

/// An object with named fields. Implementing it gives [`Decode`].
pub(crate) trait Shape: Default {
    /// Takes every field the object may have.
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self;

    /// Reports what is wrong with the object as a whole; not called when a field could not be read.
    fn check(&self, _at: &Path<'_>, _context: &mut Context<'_>) {}
}

impl<T: Shape> Decode for T {
    const FORM: &'static str = "an object";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let refused_before = std::mem::replace(&mut context.refused, false);
        let value = match &node.value {
            Value::Object(members) => read_members(members, at, context),
            _ if node.is_null() => read_members(&[], at, context),
            _ => {
                not_an_object(node, at, context);
                Self::default()
            }
        };
        if !context.refused {
            value.check(at, context);
        }
        context.refused |= refused_before;
        value
    }

    #[cfg(test)]
    fn describe(path: &str, table: &mut crate::field_table::Table) {
        let (file, mut findings) = ("".into(), super::Findings::default());
        let mut context = Context::new(&file, &mut findings, crate::yaml::Position::default());
        let mut fields = Fields::of(&[], &Path::ROOT, &mut context);
        Self::read(&mut fields);
        let (described, is_open) = (fields.described, fields.open);
        table.add_object::<Self>(path, &described, is_open);
    }
}

fn read_members<T: Shape>(members: &[Member<'_>], at: &Path<'_>, context: &mut Context<'_>) -> T {
    let mut fields = Fields::of(members, at, context);
    let value = T::read(&mut fields);
    fields.finish();
    value
}

fn not_an_object(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) {
    let problem = Problem::new("has the wrong type").found(node.describe()).expected("an object");
    let runs_together =
        node.text().and_then(|text| text.split_once(':')).filter(|(name, _)| !name.contains(' '));
    let problem = match runs_together {
        Some((name, _)) => problem.remedy(format!("put a blank after `{name}:`")),
        None => problem,
    };
    context.error(at, problem);
}

/// The members of an object while they are taken one by one.
pub(crate) struct Fields<'n, 't, 'c> {
    members: &'n [Member<'t>],
    at: &'n Path<'n>,
    context: &'n mut Context<'c>,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
    strict: bool,
    open: bool,
    warns_of_rest: bool,
    #[cfg(test)]
    described: Vec<crate::field_table::Field>,
}

/// What becomes of a field: the table of all fields says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// It means what Istio means by it.
    Honoured,
    /// It is read and checked, and a warning says that it has no effect.
    Warned,
    /// It is read and has no effect; nobody is told.
    Unused,
    /// It is not looked at.
    #[cfg(test)]
    Ignored,
    /// It means what its newer name means, and a warning says which that is.
    Deprecated,
    /// It refuses the resource.
    Refused,
}

impl<'n, 't, 'c> Fields<'n, 't, 'c> {
    fn of(members: &'n [Member<'t>], at: &'n Path<'n>, context: &'n mut Context<'c>) -> Self {
        Self {
            members,
            at,
            context,
            // Grown step by step it would be most of what reading an object allocates.
            known: Vec::with_capacity(16),
            missing: Vec::new(),
            strict: false,
            open: false,
            warns_of_rest: false,
            #[cfg(test)]
            described: Vec::new(),
        }
    }

    /// Reads a field that may be absent or null.
    pub(crate) fn optional<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        let refused_before = std::mem::replace(&mut self.context.refused, false);
        let value = self.read(name, Effect::Honoured);
        // Its default would be a value that nobody has written, such as no time at all.
        let is_left_out = self.context.leaves_out && self.context.refused && !self.is_made_of_others(name);
        self.context.refused |= refused_before;
        value.filter(|_| !is_left_out)
    }

    /// Whether a field holds values of which each can be left out by itself.
    fn is_made_of_others(&self, name: &'static str) -> bool {
        let member = self.members.iter().find(|member| member.key == name);
        member.is_some_and(|member| !matches!(member.value.value, Value::Scalar { .. }))
    }

    fn read<T: Decode>(&mut self, name: &'static str, _effect: Effect) -> Option<T> {
        #[cfg(test)]
        self.described.push(crate::field_table::Field::of::<T>(name, _effect));
        let member = self.take(name)?;
        let at = self.at.field(name);
        Some(T::decode(&member.value, &at, self.context))
    }

    /// Reads a field whose absence means its default.
    pub(crate) fn or_default<T: Decode>(&mut self, name: &'static str) -> T {
        self.optional(name).unwrap_or_default()
    }

    /// Reads a field that must be there.
    pub(crate) fn required<T: Decode>(&mut self, name: &'static str) -> T {
        self.read(name, Effect::Honoured).unwrap_or_else(|| {
            self.missing.push((name, T::FORM));
            T::default()
        })
    }

    /// Reads a field that must be there, for a place where absence is a value of its own.
    pub(crate) fn required_some<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        let value = self.optional(name);
        if value.is_none() {
            self.missing.push((name, T::FORM));
        }
        value
    }

    /// Reads a field that this version understands but does not act on, and says so.
    pub(crate) fn planned<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        self.not_yet(name, Problem::new("is not supported yet and has no effect").remedy("remove it"))
    }

    /// Reads a field that is understood but not acted on as written; the problem says what happens instead.
    pub(crate) fn not_yet<T: Decode>(&mut self, name: &'static str, problem: Problem) -> Option<T> {
        let is_said = std::mem::replace(&mut self.context.is_planned, true);
        let value = self.read(name, Effect::Warned);
        self.context.is_planned = is_said;
        if value.is_some() && !is_said {
            self.context.warning(Rule::NotSupported, &self.at.field(name), problem);
        }
        value
    }

    /// Reads a field that nothing acts on yet, without a word: for values that Kubernetes writes, not people.
    pub(crate) fn unused<T: Decode>(&mut self, name: &'static str) -> Option<T> {
        self.read(name, Effect::Unused)
    }

    /// Refuses a field that has no place here, and says why.
    pub(crate) fn refused<T: Decode>(&mut self, name: &'static str, problem: Problem) {
        if self.read::<T>(name, Effect::Refused).is_some() {
            self.error(name, problem);
        }
    }

    /// Refuses a field of the interface that was never implemented anywhere.
    pub(crate) fn unsupported<T: Decode>(&mut self, name: &'static str, instead: &str) -> Option<T> {
        let value = self.read(name, Effect::Refused)?;
        self.error(name, Problem::new("is not supported by Istio either").remedy(format!("use `{instead}`")));
        Some(value)
    }

    /// Reports a mistake in a field.
    pub(crate) fn error(&mut self, name: &'static str, problem: Problem) {
        self.context.error(&self.at.field(name), problem);
    }

    /// Reports a mistake in the object itself.
    pub(crate) fn error_here(&mut self, problem: Problem) {
        self.context.error(self.at, problem);
    }

    /// Reads a field that is spelt otherwise today, and says how.
    pub(crate) fn deprecated<T: Decode>(&mut self, name: &'static str, instead: &str) -> Option<T> {
        let value = self.read(name, Effect::Deprecated)?;
        let problem = Problem::new("is deprecated").remedy(format!("use `{instead}`"));
        self.context.warning(Rule::Deprecated, &self.at.field(name), problem);
        Some(value)
    }

    /// Accepts fields that exist but mean nothing here; their values are not looked at.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        #[cfg(test)]
        self.described.extend(names.iter().map(|name| crate::field_table::Field::ignored(name)));
        self.known.extend_from_slice(names);
    }

    /// Accepts every field that is not read: for objects of Kubernetes of which only a few matter here.
    pub(crate) fn ignore_rest(&mut self) {
        self.open = true;
    }

    /// Accepts every field that is not read, and says of each that nothing acts on it yet.
    pub(crate) fn planned_rest(&mut self) {
        #[cfg(test)]
        self.described.push(crate::field_table::Field::rest_warned());
        self.open = true;
        self.warns_of_rest = true;
    }

    /// Refuses unknown fields instead of warning: for conditions, where dropping one would let more through.
    pub(crate) fn refuse_unknown(&mut self) {
        self.strict = true;
    }

    fn take(&mut self, name: &'static str) -> Option<&'n Member<'t>> {
        self.known.push(name);
        let member = self.members.iter().find(|member| member.key == name)?;
        // A block list or object begins on the line after its name; the name is where the eye looks for it.
        let scalar = matches!(member.value.value, Value::Scalar { .. });
        let position = if scalar { member.value.position } else { member.key_position };
        self.context.positions.record(&self.at.field(name), position);
        (!member.value.is_null()).then_some(member)
    }

    fn finish(self) {
        if self.warns_of_rest && !self.context.is_planned {
            for member in self.members.iter().filter(|member| !self.known.contains(&&*member.key)) {
                let problem = Problem::new("is not supported yet and has no effect").remedy("remove it");
                let (at, position) = (self.at.field(&member.key), Some(member.key_position));
                self.context.report(Severity::Warning, Rule::NotSupported, &at, position, problem);
            }
        }
        let is_unknown = |member: &&Member<'_>| !self.open && !self.known.contains(&&*member.key);
        let unknown: Vec<_> = self.members.iter().filter(is_unknown).collect();
        // One name missing and one too many is one mistake, not two.
        if let (&[(missing, _)], [only]) = (&self.missing[..], &unknown[..]) {
            return self.report_misnamed(missing, only);
        }
        for member in unknown {
            let problem = match &*member.key {
                "" | "~" | "null" => Problem::new("has no name: YAML reads nothing, `~` and `null` as null")
                    .remedy("put the name of the field before the `:`"),
                key => {
                    let meant = did_you_mean(key, self.known.iter().copied());
                    let problem = Problem::new("is not a field of this object");
                    problem.meant_or_expected(meant, || one_of(&self.known))
                }
            };
            let (at, position) = (self.at.field(&member.key), Some(member.key_position));
            let severity = if self.strict { Severity::Error } else { Severity::Warning };
            self.context.refused |= self.strict;
            self.context.report(severity, Rule::UnknownField, &at, position, problem);
        }
        for (name, form) in self.missing {
            self.context.error(&self.at.field(name), Problem::new("is missing").expected(form));
        }
    }

    fn report_misnamed(self, missing: &str, unknown: &Member<'_>) {
        self.context.refused = true;
        let problem =
            Problem::new(format!("field `{missing}` is missing and there is no field `{}`", unknown.key));
        let problem = problem
            .found(&unknown.key)
            .expected(format!("`{missing}`"))
            .remedy("rename it if that is what is meant");
        let position = Some(unknown.key_position);
        self.context.report(Severity::Error, Rule::Invalid, &self.at.field(missing), position, problem);
    }
}
