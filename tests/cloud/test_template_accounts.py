"""The accounts of template.yaml: a user pool that nobody signs up to, and no more rights than it takes."""

from __future__ import annotations

from tests.cloud.test_template import template


def test_a_pool_is_made_only_for_a_named_admin_without_another_provider() -> None:
    """All of it under one condition, and kept when the stack is deleted."""
    resources = template()["Resources"]
    parts = [name for name, one in resources.items() if one.get("Condition") == "HasPool"]
    assert sorted(parts) == [
        "FirstAdmin",
        "StudioAccountsPolicy",
        "UserPool",
        "UserPoolClient",
        "UserPoolDomain",
    ]
    assert resources["UserPool"]["DeletionPolicy"] == resources["UserPool"]["UpdateReplacePolicy"] == "Retain"


def test_nobody_signs_up_and_the_client_has_the_code_flow_only() -> None:
    """Without a secret: PKCE stands in for it; only to this Studio's addresses."""
    resources = template()["Resources"]
    pool, client = resources["UserPool"]["Properties"], resources["UserPoolClient"]["Properties"]
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert (pool["MfaConfiguration"], pool["EnabledMfas"]) == ("OPTIONAL", ["SOFTWARE_TOKEN_MFA"])
    assert client["AllowedOAuthFlows"] == ["code"] and client["GenerateSecret"] is False
    assert client["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH"]  # no password but on the pool's pages
    assert client["PreventUserExistenceErrors"] == "ENABLED"
    assert "sign-in/back" in str(client["CallbackURLs"]) and "*" not in str(client["CallbackURLs"])


def test_the_studio_makes_and_deletes_accounts_of_its_pool_and_nothing_else() -> None:
    """And reads one parameter, where the client has a secret."""
    resources = template()["Resources"]
    (accounts,) = resources["StudioAccountsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert accounts["Action"] == ["cognito-idp:AdminCreateUser", "cognito-idp:AdminDeleteUser"]
    assert accounts["Resource"] == {"Fn::GetAtt": ["UserPool", "Arn"]}
    secret = resources["StudioClientSecretPolicy"]
    (statement,) = secret["Properties"]["PolicyDocument"]["Statement"]
    assert secret["Condition"] == "HasClientSecret" and statement["Action"] == "ssm:GetParameter"
    assert "${OidcClientSecretParameter}" in str(statement["Resource"])
